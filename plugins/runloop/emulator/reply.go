package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Failure is an error as the service answers it.
type Failure struct {
	// Status is the HTTP status, Code the machine's word for it and Message the reader's.
	Status        int
	Code, Message string
	// RetryAfter is sent when it is not zero; Retry is x-should-retry: "true", "false" or nothing.
	RetryAfter time.Duration
	Retry      string
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

func failure(status int, code, message string, args ...any) *Failure {
	return &Failure{Status: status, Code: code, Message: fmt.Sprintf(message, args...)}
}

func badRequest(message string, args ...any) *Failure {
	return failure(http.StatusBadRequest, "bad_request", message, args...)
}

func notFound(message string, args ...any) *Failure {
	return failure(http.StatusNotFound, "not_found", message, args...)
}

// conflict is final: clients repeat a 409 unless they are told not to.
func conflict(message string, args ...any) *Failure {
	f := failure(http.StatusConflict, "conflict", message, args...)
	f.Retry = "false"
	return f
}

// holdEnded is the usual answer of a long poll that has nothing to say yet.
func holdEnded(message string, args ...any) *Failure {
	f := failure(http.StatusRequestTimeout, "timeout", message, args...)
	f.Retry = "true"
	return f
}

// reply writes an answer as JSON.
func reply(w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		status, raw = http.StatusInternalServerError, []byte(`{"error":"internal","message":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

// replyError writes an error with the headers and fields that the clients look at.
func replyError(w http.ResponseWriter, err error) {
	var f *Failure
	if !errors.As(err, &f) {
		f = failure(http.StatusInternalServerError, "internal_error", "%v", err)
	}
	h := w.Header()
	retryable := f.Retry == "true" || f.Retry == "" && (f.Status == http.StatusTooManyRequests || f.Status >= http.StatusInternalServerError)
	if f.Retry != "" {
		h.Set("X-Should-Retry", f.Retry)
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatFloat(f.RetryAfter.Seconds(), 'f', -1, 64))
		h.Set("Retry-After-Ms", strconv.FormatInt(f.RetryAfter.Milliseconds(), 10))
	}
	h.Set("X-Runloop-Error-Code", f.Code)
	reply(w, f.Status, map[string]any{
		"error": f.Code, "message": f.Message, "retryable": retryable, "request_id": h.Get("X-Runloop-Request-Id"),
	})
}

// maxBody is how large a JSON body may be: files that are written as text are the largest.
const maxBody = 128 << 20

// decode reads a JSON body. An empty one is an empty object: clients send POST requests with a content type and nothing in them.
func decode[T any](r *http.Request) (T, error) {
	var body T
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return body, failure(http.StatusRequestTimeout, "timeout", "waiting for request data: %v", err)
	}
	return decodeJSON[T](raw)
}

func decodeJSON[T any](raw []byte) (T, error) {
	var body T
	if len(raw) == 0 {
		return body, nil
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return body, badRequest("Invalid request body: %v", err)
	}
	return body, nil
}
