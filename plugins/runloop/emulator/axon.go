package emulator

import (
	"maps"
	"net/http"
	"strconv"
	"time"
)

func (s *Server) axonRoutes() {
	s.routes.on("POST /v1/axons/{id}/publish", s.publish)
	s.routes.on("GET /v1/axons/{id}/events", s.axonEvents)
	s.routes.on("GET /v1/axons/{id}/subscribe/sse", s.subscribe)
	for _, path := range []string{"query", "batch"} {
		s.routes.on("POST /v1/axons/{id}/sql/"+path, func(_ http.ResponseWriter, r *http.Request) (any, error) {
			if _, err := s.axon(r); err != nil {
				return nil, err
			}
			return nil, failure(http.StatusNotImplemented, "not_implemented", "The emulator has no database for axons")
		})
	}
}

func (s *Server) axon(r *http.Request) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.records("axons").byID[r.PathValue("id")]
	if c == nil || c.deleted {
		return nil, notFound("Axon %s not found", r.PathValue("id"))
	}
	return c, nil
}

func (s *Server) publish(_ http.ResponseWriter, r *http.Request) (any, error) {
	event, err := decode[map[string]any](r)
	if err != nil {
		return nil, err
	}
	c, err := s.axon(r)
	if err != nil {
		return nil, err
	}
	for _, field := range []string{"event_type", "origin", "payload", "source"} {
		if _, ok := event[field].(string); !ok {
			return nil, badRequest("%s is required", field)
		}
	}
	switch event["origin"] {
	case "EXTERNAL_EVENT", "AGENT_EVENT", "USER_EVENT":
	default:
		return nil, badRequest("Invalid origin: %v", event["origin"])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	event = pick(event, "event_type", "origin", "payload", "source")
	event["axon_id"], event["sequence"], event["timestamp_ms"] = c.id, len(c.events)+1, nowMs()
	c.events = append(c.events, event)
	close(c.changed)
	c.changed = make(chan struct{})
	return pick(event, "sequence", "timestamp_ms"), nil
}

func (s *Server) axonEvents(_ http.ResponseWriter, r *http.Request) (any, error) {
	c, err := s.axon(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := func(e map[string]any) string { return strconv.Itoa(e["sequence"].(int)) }
	return page(r, "events", c.events, id, func(e map[string]any) any { return maps.Clone(e) })
}

// subscribe sends an axon's events from a sequence on, and each further one as it is published.
func (s *Server) subscribe(w http.ResponseWriter, r *http.Request) (any, error) {
	c, err := s.axon(r)
	if err != nil {
		return nil, err
	}
	at, err := strconv.Atoi(r.URL.Query().Get("after_sequence"))
	if err != nil {
		at = 0
	}
	events := openEvents(w)
	ticker := time.NewTicker(ping)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		fresh := c.events[min(max(at, 0), len(c.events)):]
		changed := c.changed
		s.mu.Unlock()
		for _, event := range fresh {
			at++
			if !events.send(event) {
				return written{}, nil
			}
		}
		select {
		case <-changed:
		case <-ticker.C:
			events.write(": ping\n\n")
		case <-r.Context().Done():
			return written{}, nil
		}
	}
}

// keyRoutes make keys that are accepted from then on.
func (s *Server) keyRoutes() {
	for path, prefix := range map[string]string{"/v1/apikeys": "ak", "/v1/restricted_keys": "rk"} {
		s.routes.on("POST "+path, func(_ http.ResponseWriter, r *http.Request) (any, error) {
			request, err := decode[map[string]any](r)
			if err != nil {
				return nil, err
			}
			secret := prefix + "_" + randomText(base62, 2*idLength)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.state.keys[secret] = true
			view := pick(request, "name", "expires_at_ms")
			view["id"], view["key_secret"] = newID("key"), secret
			if prefix == "rk" {
				view["scopes"] = request["scopes"]
			}
			return view, nil
		})
	}
}
