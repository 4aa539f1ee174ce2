package openhands

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/openhands-rt/openhands-rt/host/auth"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// problem is an error of the runtime API. Clients read detail, and crash on anything but an object.
type problem struct {
	Detail string `json:"detail"`
	// Reason is one of agent.v1 Reason.
	Reason string `json:"reason,omitempty"`
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	e := rterr.From(err)
	text := e.Error()
	if e.Remedy != "" {
		text += ". Next: " + e.Remedy
	}
	reply(w, rthttp.Status(err), problem{Detail: text, Reason: e.Reason.String()})
}

// reply answers with a value that can always be marshalled.
func reply(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"detail":"an answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// fail answers below a runtime's URL.
func fail(w http.ResponseWriter, err error) { _ = v0.FailureOf(err).Reply().Write(w) }

// notAlive is an answer to /alive that clients take for "not yet"; of most other statuses they give up.
func notAlive(w http.ResponseWriter, err error) {
	_ = (&v0.Failure{Status: http.StatusInternalServerError, Detail: "The runtime is not ready: " + rterr.From(err).Error()}).Reply().Write(w)
}

// decode reads a request's JSON object into v. An empty body is an empty object.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(v)
	if err != nil && !errors.Is(err, io.EOF) {
		return rterr.Invalid("read the request", "body", "%v", err)
	}
	return nil
}

// require lets a request of the runtime API pass with its principal, or answers 401.
func (d *Door) require(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := d.opts.Keys(auth.KeyOf(r))
		if !ok {
			reply(w, http.StatusUnauthorized, problem{Detail: "Invalid API key", Reason: rterr.Unauthenticated.String()})
			return
		}
		next(w, r.WithContext(runtime.WithPrincipal(r.Context(), p)))
	})
}
