package emulator

import (
	"encoding/json"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// record is a resource that the emulator keeps as the client wrote it. The server's lock guards it.
type record struct {
	id, name string
	deleted  bool
}

// record returns one of a kind by its id or name, nil if there is none. The server's lock is held.
func (s *Server) record(kind, name string) *record {
	t := s.state.records[kind]
	if t == nil {
		return nil
	}
	if found := t.byID[name]; found != nil && !found.deleted {
		return found
	}
	for _, one := range t.list() {
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

func (s *Server) recordRoutes() {}

func (s *Server) mountObject(*box.Box, string, string) error { return nil }

func (s *Server) mountAgent(*devbox, *box.Box, api.AgentMount) error { return nil }
