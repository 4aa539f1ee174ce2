package emulator

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// The states of an object.
const (
	objectUploading = "UPLOADING"
	objectReadOnly  = "READ_ONLY"
	objectDeleted   = "DELETED"
)

// maxObject is how large an object may be here: it is kept in memory.
const maxObject = 512 << 20

func makeObject(request map[string]any) (map[string]any, error) {
	view, err := withMetadata(pick(request, "name", "content_type", "metadata"))
	if err != nil {
		return nil, err
	}
	switch view["content_type"] {
	case "unspecified", "text", "binary", "gzip", "tar", "tgz":
	default:
		return nil, badRequest("Invalid content_type: %v", view["content_type"])
	}
	view["state"], view["create_time_ms"] = objectUploading, nowMs()
	view["size_bytes"], view["upload_url"], view["delete_after_time_ms"] = nil, nil, nil
	if ttl, ok := request["ttl_ms"].(float64); ok {
		view["delete_after_time_ms"] = nowMs() + int64(ttl)
	}
	return view, nil
}

// placeObject gives a new object the URL that its content is sent to. The server's lock is held.
func (s *Server) placeObject(r *http.Request, k kind, c *record) {
	if k.collection == "objects" {
		c.view["upload_url"] = s.contentURL(r, c)
	}
}

func (s *Server) contentURL(r *http.Request, c *record) string {
	return "http://" + r.Host + "/_emulator/objects/" + c.id + "?token=" + c.token
}

func (s *Server) objectRoutes() {
	objects := configKinds()[4]
	s.routes.on("POST /v1/objects/{id}/complete", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		c, err := s.findRecord(objects, r)
		if err != nil {
			return nil, err
		}
		if c.view["state"] != objectUploading {
			return nil, conflict("Object %s is not uploading: it is in state %s", c.id, c.view["state"])
		}
		c.view["state"], c.view["upload_url"], c.view["size_bytes"] = objectReadOnly, nil, len(c.content)
		return viewRecord(c), nil
	})
	s.routes.on("GET /v1/objects/{id}/download", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		c, err := s.findRecord(objects, r)
		if err != nil {
			return nil, err
		}
		if c.view["state"] != objectReadOnly {
			return nil, badRequest("Object %s cannot be downloaded: it is in state %s", c.id, c.view["state"])
		}
		return map[string]any{"download_url": s.contentURL(r, c)}, nil
	})
}

// serveContent is where the URLs of objects lead: they need no key, for the token is one.
func (s *Server) serveContent(w http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	c := s.records("objects").byID[r.PathValue("id")]
	ok := c != nil && !c.deleted && subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("token")), []byte(c.token)) == 1
	var content []byte
	if ok {
		content = c.content
	}
	s.mu.Unlock()
	if !ok {
		return nil, failure(http.StatusForbidden, "forbidden", "This URL is not valid")
	}
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content)
		return written{}, nil
	}
	content, err := io.ReadAll(io.LimitReader(r.Body, maxObject+1))
	if err != nil {
		return nil, failure(http.StatusRequestTimeout, "timeout", "waiting for request data: %v", err)
	}
	if len(content) > maxObject {
		return nil, failure(http.StatusRequestEntityTooLarge, "too_large", "An object may have %d bytes here", maxObject)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.view["state"] != objectUploading {
		return nil, conflict("Object %s is not uploading", c.id)
	}
	c.content = content
	return struct{}{}, nil
}

// mountObject puts an object's content into a devbox: an archive's into a folder, any other into a file.
func (s *Server) mountObject(b *box.Box, id, target string) error {
	s.mu.Lock()
	c := s.record("objects", id)
	var content []byte
	archive := ""
	if c != nil {
		content = c.content
		archive, _ = c.view["content_type"].(string)
	}
	s.mu.Unlock()
	if c == nil {
		return fmt.Errorf("object %s is not there", id)
	}
	flags := map[string]string{"tar": "-xf", "tgz": "-xzf"}[archive]
	if flags == "" && archive == "gzip" && (strings.HasSuffix(c.name, ".tar.gz") || strings.HasSuffix(c.name, ".tgz")) {
		flags = "-xzf"
	}
	if flags == "" {
		return put(b, target, bytes.NewReader(content))
	}
	to, err := place(b, target)
	if err != nil {
		return err
	}
	cmd := b.Command(nil, "/bin/bash", "-c", `mkdir -p -- "$1" && exec tar "$2" - -C "$1"`, "bash", to, flags)
	cmd.Stdin = bytes.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack object %s: %w: %s", id, err, out)
	}
	return nil
}

// mountAgent installs an agent in the way that its source says, as far as this machine reaches it.
func (s *Server) mountAgent(d *devbox, b *box.Box, m api.AgentMount) error {
	name := ""
	for _, n := range []*string{m.AgentID, m.AgentName} {
		if n != nil && *n != "" {
			name = *n
		}
	}
	s.mu.Lock()
	agent := s.record("agents", name)
	var raw any
	if agent != nil {
		raw = agent.view["source"]
	}
	s.mu.Unlock()
	if agent == nil {
		return fmt.Errorf("agent %s is not there", name)
	}
	source, err := convert[agentSource](raw)
	if err != nil {
		return err
	}
	target := path.Join(b.Home(), agent.name)
	if m.AgentPath != nil && *m.AgentPath != "" {
		target = *m.AgentPath
	}
	if source.Object != nil {
		if err := s.mountObject(b, source.Object.ObjectID, target); err != nil {
			return err
		}
	}
	for _, command := range source.commands(target) {
		if exit, ok := s.runLogged(d, b, "setup_commands", command); ok && exit != 0 && !fetches(command) {
			return fmt.Errorf("agent %s: %q ended with status %d", name, command, exit)
		}
	}
	return nil
}

// commands install an agent and set it up.
func (a agentSource) commands(target string) []string {
	inside := func(setup []string) (out []string) {
		for _, command := range setup {
			out = append(out, "cd "+quote(target)+" 2>/dev/null; "+command)
		}
		return out
	}
	switch {
	case a.Git != nil:
		clone := "git clone " + quote(a.Git.Repository) + " " + quote(target)
		if a.Git.Ref != nil {
			clone += " && git -C " + quote(target) + " checkout " + quote(*a.Git.Ref)
		}
		return append([]string{clone}, inside(a.Git.AgentSetup)...)
	case a.Npm != nil:
		return append([]string{"npm install -g " + quote(a.Npm.PackageName)}, a.Npm.AgentSetup...)
	case a.Pip != nil:
		return append([]string{"pip install " + quote(a.Pip.PackageName)}, a.Pip.AgentSetup...)
	case a.Object != nil:
		return inside(a.Object.AgentSetup)
	default:
		return nil
	}
}
