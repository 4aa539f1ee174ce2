package emulator

import (
	"net/http"
	"strings"
)

// endpoint answers one method of one path. What it returns is sent as JSON with status 200, an error as Failure says; an endpoint that
// has written itself returns written.
type endpoint func(w http.ResponseWriter, r *http.Request) (any, error)

// written is what an endpoint returns that has sent its answer.
type written struct{}

// router finds endpoints by path. net/http's own refuses paths of which neither is the more special, as this API has them:
// /v1/devboxes/{id}/usage and /v1/devboxes/disk_snapshots/{id}. Here a word beats a variable, from left to right.
type router struct{ root node }

type node struct {
	words    map[string]*node
	variable *node
	name     string
	methods  map[string]endpoint
}

// on adds an endpoint: "POST /v1/devboxes/{id}/suspend".
func (t *router) on(pattern string, e endpoint) {
	method, path, _ := strings.Cut(pattern, " ")
	at := &t.root
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		at = at.child(part)
	}
	if at.methods == nil {
		at.methods = map[string]endpoint{}
	}
	at.methods[method] = e
}

func (n *node) child(part string) *node {
	if strings.HasPrefix(part, "{") {
		if n.variable == nil {
			n.variable = &node{name: strings.Trim(part, "{}")}
		}
		return n.variable
	}
	if n.words == nil {
		n.words = map[string]*node{}
	}
	if n.words[part] == nil {
		n.words[part] = &node{}
	}
	return n.words[part]
}

// find returns the endpoint of a request and sets its path values: 404 for an unknown path, 405 for a method that it does not have.
func (t *router) find(r *http.Request) (endpoint, error) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	values := map[string]string{}
	found := t.root.walk(parts, values)
	if found == nil {
		return nil, notFound("No such path: %s", r.URL.Path)
	}
	e, ok := found.methods[r.Method]
	if !ok {
		return nil, failure(http.StatusMethodNotAllowed, "method_not_allowed", "%s is not allowed for %s", r.Method, r.URL.Path)
	}
	for name, value := range values {
		r.SetPathValue(name, value)
	}
	return e, nil
}

func (n *node) walk(parts []string, values map[string]string) *node {
	if len(parts) == 0 {
		if n.methods == nil {
			return nil
		}
		return n
	}
	if next := n.words[parts[0]]; next != nil {
		if found := next.walk(parts[1:], values); found != nil {
			return found
		}
	}
	if n.variable == nil || parts[0] == "" {
		return nil
	}
	found := n.variable.walk(parts[1:], values)
	if found != nil {
		// The name is that of the first pattern; a variable of the same place has one meaning.
		values[n.variable.name] = parts[0]
	}
	return found
}
