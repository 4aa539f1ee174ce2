package emulator

import (
	"net/http"
	"strings"
	"time"
)

// evict announces that a devbox will be suspended, and suspends it then.
func (s *Server) evict(d *devbox, after time.Duration) {
	s.mu.Lock()
	s.state.evictions[d.id] = time.Now().Add(after).UnixMilli()
	close(s.state.evicted)
	s.state.evicted = make(chan struct{})
	s.mu.Unlock()
	s.work.Go(func() {
		if pause(d.life, after) == nil {
			s.suspend(d)
		}
	})
}

// postEvict is the emulator's own way to evict a devbox: {"after_seconds": 5}.
func (s *Server) postEvict(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct {
		After float64 `json:"after_seconds"`
	}](r)
	if err != nil {
		return nil, err
	}
	d, _, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s.evict(d, seconds(body.After))
	return struct{}{}, nil
}

// watchEvictions sends every pending eviction at once and each further one when it is announced. Who does not ask for a stream gets
// an empty text, as from the service.
func (s *Server) watchEvictions(w http.ResponseWriter, r *http.Request) (any, error) {
	if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK)
		return written{}, nil
	}
	events := openEvents(w)
	ticker := time.NewTicker(ping)
	defer ticker.Stop()
	sent := map[string]int64{}
	for {
		fresh, changed := s.pendingEvictions(sent)
		for id, deadline := range fresh {
			sent[id] = deadline
			if !events.send(map[string]any{"devbox_id": id, "eviction_deadline_ms": deadline}) {
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

// pendingEvictions returns those that were not sent, and what is closed when there are more.
func (s *Server) pendingEvictions(sent map[string]int64) (map[string]int64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := map[string]int64{}
	for id, deadline := range s.state.evictions {
		if sent[id] != deadline {
			fresh[id] = deadline
		}
	}
	return fresh, s.state.evicted
}
