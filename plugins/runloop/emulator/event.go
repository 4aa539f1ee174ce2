package emulator

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// events is an answer of server-sent events.
type events struct {
	w     http.ResponseWriter
	flush *http.ResponseController
}

func openEvents(w http.ResponseWriter) events {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	e := events{w, http.NewResponseController(w)}
	_ = e.flush.Flush()
	return e
}

// send sends one event, and reports whether the client is there.
func (e events) send(value any) bool {
	raw, err := json.Marshal(value)
	if err != nil {
		return false
	}
	return e.write("data: " + string(raw) + "\n\n")
}

func (e events) write(text string) bool {
	if _, err := e.w.Write([]byte(text)); err != nil {
		return false
	}
	return e.flush.Flush() == nil
}

// fail sends the event that clients take for an answer with a status.
func (e events) fail(status int, message string) {
	raw, _ := json.Marshal(map[string]string{"code": strconv.Itoa(status), "message": message})
	e.write("event: error\ndata: " + string(raw) + "\n\n")
}
