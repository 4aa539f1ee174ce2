package v0

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Failure is an answer other than 2xx. Its body is always a JSON object with a string "detail": anything else breaks clients.
type Failure struct {
	Status int
	Detail string
	// Errors is what a 422 adds: a list as Python prints it.
	Errors string
	// Allow is the header of a 405.
	Allow string
	// RetryAfter is sent if it is not zero.
	RetryAfter time.Duration

	cause error
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Errors != "" {
		return strconv.Itoa(f.Status) + ": " + f.Detail + ": " + f.Errors
	}
	return strconv.Itoa(f.Status) + ": " + f.Detail
}

// Unwrap returns what the failure was made of, nil if nothing.
func (f *Failure) Unwrap() error { return f.cause }

// Reply returns the failure as an answer.
func (f *Failure) Reply() Reply {
	body := struct {
		Detail string `json:"detail"`
		Errors string `json:"errors,omitempty"`
	}{f.Detail, f.Errors}
	return Reply{Status: f.Status, Body: encode(body), failure: f}
}

// Forbidden is the answer to a missing or wrong session key.
func Forbidden() *Failure { return &Failure{Status: http.StatusForbidden, Detail: "Invalid API Key"} }

// NotFound is the answer for a path that does not exist.
func NotFound() *Failure { return &Failure{Status: http.StatusNotFound, Detail: "Not Found"} }

// MethodNotAllowed is the answer to a method other than those of allow ("GET, HEAD").
func MethodNotAllowed(allow string) *Failure {
	return &Failure{Status: http.StatusMethodNotAllowed, Detail: "Method Not Allowed", Allow: allow}
}

// Unexpected is the answer to a fault of the server's own. It does not say which: the log does.
func Unexpected() *Failure {
	return &Failure{Status: http.StatusInternalServerError, Detail: "An unexpected error occurred. Please try again later."}
}

// Unprocessable is the answer to a body or query that does not have the form of a request; kind, place and message describe the
// first offence as the original's validation does.
func Unprocessable(kind, message string, place ...string) *Failure {
	for i, p := range place {
		place[i] = "'" + p + "'"
	}
	loc := strings.Join(place, ", ")
	if len(place) == 1 {
		loc += ","
	}
	return &Failure{
		Status: http.StatusUnprocessableEntity, Detail: "Invalid request parameters",
		Errors: "[{'type': '" + kind + "', 'loc': (" + loc + "), 'msg': '" + message + "'}]",
	}
}

// Internal is the answer to whatever goes wrong with an action as a request, not as a tool: text is what the original's exception
// would say.
func Internal(text string) *Failure {
	return &Failure{Status: http.StatusInternalServerError, Detail: "Internal server error: " + text}
}

// FailureOf returns the answer to an error: a Failure as it is, errors of a sandbox that is away with the statuses that OpenHands'
// client knows (404 gone, 502 unreachable, 503 paused, 504 too late), a full queue as 429, which the client sends again. Any other
// is an Internal one.
func FailureOf(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	e := rterr.From(err)
	f := &Failure{Status: http.StatusInternalServerError, Detail: "Internal server error: " + e.Error(), RetryAfter: e.RetryAfter, cause: err}
	switch e.Reason {
	case rterr.SandboxGone:
		f.Status = http.StatusNotFound
	case rterr.SandboxUnreachable, rterr.Network:
		f.Status = http.StatusBadGateway
	case rterr.SandboxPaused:
		f.Status = http.StatusServiceUnavailable
	case rterr.Timeout:
		f.Status = http.StatusGatewayTimeout
	case rterr.LimitExceeded, rterr.RateLimited:
		if e.Retryable && e.Ran == rterr.RanNo {
			f.Status = http.StatusTooManyRequests
		}
	}
	return f
}

// Reply is a whole answer, its body in memory.
type Reply struct {
	Status int
	// Body is JSON.
	Body []byte

	failure *Failure
}

// OK is a 200 with a value that always can be marshalled.
func OK(value any) Reply { return Reply{Status: http.StatusOK, Body: encode(value)} }

// Write sends the answer. A client that is gone is told by the error.
func (r Reply) Write(w http.ResponseWriter) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(r.Body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if r.failure != nil && r.failure.Allow != "" {
		h.Set("Allow", r.failure.Allow)
	}
	if r.failure != nil && r.failure.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(r.failure.RetryAfter.Seconds()+0.999)))
	}
	w.WriteHeader(r.Status)
	_, err := w.Write(r.Body)
	return err
}

// encode is JSON as the original writes it: no HTML escapes, no newline. value is a plain struct, list or map.
func encode(value any) []byte {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return []byte(`{"detail":"An unexpected error occurred. Please try again later."}`)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}
