package emulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// record is a resource whose view is what is kept of it. The server's lock guards it.
type record struct {
	id, name string
	view     map[string]any
	deleted  bool
	// content is an object's; token is in the URLs by which it is written and read; events are an axon's.
	content []byte
	token   string
	events  []map[string]any
	changed chan struct{}
}

// kind is a sort of records that are made, changed, listed and deleted all in the same way.
type kind struct {
	// path is that of the collection, collection the word for it in a list, prefix that of its ids, noun its name in messages.
	path, collection, prefix, noun string
	// unique says that a name may be there once.
	unique bool
	// required are the fields without which none is made.
	required []string
	// make turns the fields of a request into those of the view.
	make func(request map[string]any) (map[string]any, error)
	// change turns the fields of an update into those that change; nil: none may.
	change func(request map[string]any) (map[string]any, error)
	// keep says that a deleted one can still be looked at, with its view changed by this.
	keep map[string]any
	// empty says that a delete answers with nothing.
	empty bool
}

func (s *Server) recordRoutes() {
	for _, k := range slices.Concat(configKinds(), scenarioKinds()) {
		s.routes.on("POST "+k.path, func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.postRecord(k, r) })
		s.routes.on("GET "+k.path, func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.listRecords(k, r) })
		s.routes.on("GET "+k.path+"/list_public", func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return page(r, k.collection, []*record{}, func(c *record) string { return c.id }, viewRecord)
		})
		s.routes.on("GET "+k.path+"/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.getRecord(k, r) })
		s.routes.on("POST "+k.path+"/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.updateRecord(k, r) })
		s.routes.on("POST "+k.path+"/{id}/delete", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.deleteRecord(k, r) })
		s.routes.on("DELETE "+k.path+"/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.deleteRecord(k, r) })
	}
	s.objectRoutes()
	s.axonRoutes()
	s.scenarioRoutes()
	s.benchmarkRoutes()
	s.keyRoutes()
}

func viewRecord(c *record) any { return maps.Clone(c.view) }

// records returns the table of a collection. The server's lock is held.
func (s *Server) records(collection string) *table[*record] {
	t := s.state.records[collection]
	if t == nil {
		t = newTable[*record]()
		s.state.records[collection] = t
	}
	return t
}

// record returns one of a collection by its id or name, nil if there is none. The server's lock is held.
func (s *Server) record(collection, name string) *record {
	t := s.records(collection)
	if found := t.byID[name]; found != nil && !found.deleted {
		return found
	}
	all := t.list()
	slices.Reverse(all)
	for _, one := range all {
		if one.name == name && !one.deleted {
			return one
		}
	}
	return nil
}

// convert reads what was decoded without a type as a type.
func convert[T any](raw any) (T, error) {
	var out T
	text, err := json.Marshal(raw)
	if err != nil {
		return out, err
	}
	return decodeJSON[T](text)
}

func (s *Server) postRecord(k kind, r *http.Request) (any, error) {
	request, err := decode[map[string]any](r)
	if err != nil {
		return nil, err
	}
	for _, field := range k.required {
		if request[field] == nil || request[field] == "" {
			return nil, badRequest("%s is required", field)
		}
	}
	view, err := k.make(request)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name, _ := request["name"].(string)
	if k.unique && s.record(k.collection, name) != nil {
		return nil, badRequest("%s with name %s already exists", k.noun, name)
	}
	c := s.addRecord(k.collection, k.prefix, name, view)
	s.placeObject(r, k, c)
	return viewRecord(c), nil
}

// addRecord keeps a view under a new id. The server's lock is held.
func (s *Server) addRecord(collection, prefix, name string, view map[string]any) *record {
	c := &record{id: newID(prefix), name: name, view: view, token: randomText(base62, 2*idLength), changed: make(chan struct{})}
	view["id"] = c.id
	s.records(collection).add(c.id, c)
	return c
}

// matchesQuery reports whether a record is what a list asks for.
func matchesQuery(c *record, r *http.Request) bool {
	q := r.URL.Query()
	field := func(name string) string {
		value, _ := c.view[name].(string)
		return value
	}
	for _, name := range []string{"id", "name", "version", "state", "content_type", "type", "benchmark_id", "scenario_id", "benchmark_run_id"} {
		if want := q.Get(name); want != "" && field(name) != want {
			return false
		}
	}
	if search := q.Get("search"); search != "" && !strings.Contains(strings.ToLower(c.name), strings.ToLower(search)) && c.id != search {
		return false
	}
	if q.Get("is_public") == "true" {
		return false
	}
	metadata, _ := c.view["metadata"].(map[string]string)
	return metadataFilter(q)(metadata)
}

func (s *Server) listRecords(k kind, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(s.records(k.collection).list(), func(c *record) bool { return c.deleted || !matchesQuery(c, r) })
	return page(r, k.collection, all, func(c *record) string { return c.id }, viewRecord)
}

// findRecord returns the one that a path names. The server's lock is held.
func (s *Server) findRecord(k kind, r *http.Request) (*record, error) {
	c := s.records(k.collection).byID[r.PathValue("id")]
	if c == nil || c.deleted && k.keep == nil {
		return nil, notFound("%s %s not found", k.noun, r.PathValue("id"))
	}
	return c, nil
}

func (s *Server) getRecord(k kind, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findRecord(k, r)
	if err != nil {
		return nil, err
	}
	return viewRecord(c), nil
}

func (s *Server) updateRecord(k kind, r *http.Request) (any, error) {
	request, err := decode[map[string]any](r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findRecord(k, r)
	if err != nil {
		return nil, err
	}
	if k.change == nil {
		return nil, failure(http.StatusMethodNotAllowed, "method_not_allowed", "A %s cannot be changed", k.noun)
	}
	changes, err := k.change(request)
	if err != nil {
		return nil, err
	}
	for name, value := range changes {
		if value == nil {
			continue
		}
		// What is made of parts changes part by part.
		if parts, ok := value.(map[string]any); ok && c.view[name] != nil {
			if old, ok := c.view[name].(map[string]any); ok {
				merged := maps.Clone(old)
				maps.Copy(merged, parts)
				value = merged
			}
		}
		c.view[name] = value
	}
	if name, ok := c.view["name"].(string); ok {
		c.name = name
	}
	if _, ok := c.view["update_time_ms"]; ok {
		c.view["update_time_ms"] = nowMs()
	}
	return viewRecord(c), nil
}

func (s *Server) deleteRecord(k kind, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findRecord(k, r)
	if err != nil {
		return nil, err
	}
	c.deleted = true
	c.content = nil
	maps.Copy(c.view, k.keep)
	if k.empty {
		return struct{}{}, nil
	}
	return viewRecord(c), nil
}

// pick returns the fields of a request by name; what is missing is null.
func pick(request map[string]any, names ...string) map[string]any {
	out := map[string]any{}
	for _, name := range names {
		out[name] = request[name]
	}
	return out
}

// given returns the fields that a request has.
func given(names ...string) func(map[string]any) (map[string]any, error) {
	return func(request map[string]any) (map[string]any, error) {
		out := map[string]any{}
		for _, name := range names {
			if value, ok := request[name]; ok {
				out[name] = value
			}
		}
		return withMetadata(out)
	}
}

// withMetadata makes metadata, if there is any, a map of texts.
func withMetadata(fields map[string]any) (map[string]any, error) {
	raw, ok := fields["metadata"]
	if !ok || raw == nil {
		return fields, nil
	}
	metadata, err := convert[map[string]string](raw)
	if err != nil {
		return nil, err
	}
	fields["metadata"] = metadata
	return fields, nil
}

// orEmpty makes null metadata empty: views that must have it have it.
func orEmpty(fields map[string]any) (map[string]any, error) {
	if fields["metadata"] == nil {
		fields["metadata"] = map[string]string{}
	}
	return withMetadata(fields)
}
