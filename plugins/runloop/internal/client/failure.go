package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// failure is what one try of a request came to, other than an answer. It is the cause of the *rterr.Error that callers get.
type failure struct {
	// status of the answer, 0 if there was none.
	status int
	// should is the header x-should-retry, "" if it was not there.
	should string
	// after is Retry-After, 0 if it was not there.
	after time.Duration
	// code, message and request are the API's own words.
	code, message, request string
	// sent: the request may have reached the API.
	sent bool
	// err is what broke where there was no answer.
	err error
}

// Error implements error.
func (f *failure) Error() string {
	switch {
	case f.err != nil:
		return f.err.Error()
	case f.message != "":
		return f.message
	default:
		return "status " + strconv.Itoa(f.status)
	}
}

// Unwrap returns what broke.
func (f *failure) Unwrap() error { return f.err }

// broken is the failure of a request without an answer.
func broken(err error) *failure {
	op, ok := errors.AsType[*net.OpError](err)
	return &failure{err: err, sent: !ok || op.Op != "dial"}
}

// refused is the failure of a request with an answer that is an error.
func refused(resp *http.Response, body []byte) *failure {
	f := &failure{
		status: resp.StatusCode, should: strings.ToLower(resp.Header.Get("X-Should-Retry")), sent: true,
		after: retryAfter(resp.Header, time.Now()),
		code:  resp.Header.Get("X-Runloop-Error-Code"), request: resp.Header.Get("X-Runloop-Request-Id"),
	}
	var said struct {
		Error     any    `json:"error"`
		Message   string `json:"message"`
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(body, &said) != nil {
		f.message = clip(string(body))
		return f
	}
	word, _ := said.Error.(string)
	f.message = clip(firstOf(said.Message, word))
	f.code, f.request = clip(firstOf(f.code, word)), firstOf(f.request, said.RequestID)
	return f
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func clip(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	for len(text) > maxReason {
		_, size := utf8.DecodeLastRuneInString(text[:maxReason])
		text = text[:maxReason-size]
	}
	return text
}

// retryAfter reads retry-after-ms and Retry-After; what is longer than maxRetryAfter is not obeyed.
func retryAfter(h http.Header, now time.Time) time.Duration {
	var d time.Duration
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		d = time.Duration(ms * float64(time.Millisecond))
	} else if s, err := strconv.ParseFloat(h.Get("Retry-After"), 64); err == nil {
		d = time.Duration(s * float64(time.Second))
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		d = at.Sub(now)
	}
	if d < 0 || d > maxRetryAfter {
		return 0
	}
	return d
}

// passing reports whether the same request may well succeed in a moment. noEffect asks for more: that it surely did nothing.
func (f *failure) passing(noEffect bool) bool {
	switch {
	case f.should == "false":
		return false
	case noEffect:
		return !f.sent || f.status == http.StatusTooManyRequests
	case f.should == "true", f.status == 0:
		return true
	case f.quota():
		return false
	}
	switch f.status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return f.status >= http.StatusInternalServerError
}

// quota reports whether the account has nothing left to give: there is no status of its own for it.
func (f *failure) quota() bool {
	if f.status < 400 || f.status >= 500 {
		return false
	}
	text := strings.ToLower(f.code + " " + f.message)
	return strings.Contains(text, "quota") || strings.Contains(text, "limit reached") || f.status == http.StatusPaymentRequired
}

// toError maps a failure to the house's errors. The API's own words are evidence.
func (f *failure) toError(ctx context.Context, operation string, attempts int) *rterr.Error {
	e := f.classify(ctx)
	e.Op = operation
	for key, value := range map[string]string{
		"runloop_code": f.code, "runloop_reason": f.message, "runloop_request_id": f.request,
	} {
		if value != "" {
			e = e.With(key, value)
		}
	}
	if f.status != 0 {
		e = e.With("status", strconv.Itoa(f.status))
	}
	if attempts > 1 {
		e = e.With("attempts", strconv.Itoa(attempts))
	}
	return e.WithCause(f)
}

func (f *failure) classify(ctx context.Context) *rterr.Error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return rterr.New(rterr.Cancelled, "", "cancelled by the caller")
	case errors.Is(ctx.Err(), context.DeadlineExceeded), f.status == 0 && errors.Is(f.err, context.DeadlineExceeded):
		return rterr.New(rterr.Timeout, "", "no answer in time")
	case f.status == 0:
		return rterr.New(rterr.Network, "", "%v", f.err)
	case f.quota():
		return rterr.New(rterr.QuotaExceeded, "", "%s", f.Error())
	}
	return f.ofStatus()
}

func (f *failure) ofStatus() *rterr.Error {
	said := f.Error()
	switch f.status {
	case http.StatusUnauthorized:
		return rterr.New(rterr.Unauthenticated, "", "Runloop does not accept the API key: %s", said).
			WithRemedy("make a new key in Runloop's dashboard and put it where the credential api_key refers to (RUNLOOP_API_KEY)")
	case http.StatusForbidden:
		return rterr.New(rterr.PermissionDenied, "", "the API key may not do that: %s", said).
			WithRemedy("give the key write access to devboxes in Runloop's dashboard")
	case http.StatusNotFound:
		return rterr.New(rterr.NotFound, "", "%s", said)
	case http.StatusRequestTimeout:
		return rterr.New(rterr.Timeout, "", "%s", said)
	case http.StatusConflict:
		return rterr.New(rterr.IllegalState, "", "%s", said)
	case http.StatusTooManyRequests:
		return rterr.New(rterr.RateLimited, "", "%s", said).WithRetryAfter(f.after)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e := rterr.New(rterr.Unavailable, "", "%s", said)
		e.RetryAfter = f.after
		return e
	}
	if f.status >= http.StatusInternalServerError {
		return rterr.New(rterr.Provider, "", "%s", said).WithRetryAfter(f.after)
	}
	return rterr.New(rterr.InvalidArgument, "", "%s", said).WithRemedy("see the evidence for Runloop's own words")
}

// Uncertain reports whether a request that failed may have had its effect all the same.
func Uncertain(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.sent && (f.status == 0 || f.status >= http.StatusInternalServerError || f.status == http.StatusRequestTimeout)
}

// Status returns the HTTP status of an error's answer, 0 if there was none.
func Status(err error) int {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	return 0
}

// Missing reports whether the thing that was asked for does not exist: unknown ids are 404, malformed ones 400.
func Missing(err error) bool {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return false
	}
	if f.status == http.StatusNotFound {
		return true
	}
	text := strings.ToLower(f.code + " " + f.message)
	return f.status == http.StatusBadRequest && (strings.Contains(text, "not found") || strings.Contains(text, "not_found") ||
		strings.Contains(text, "invalid") && strings.Contains(text, "id"))
}

func asFailure(err error) (*failure, bool) { return errors.AsType[*failure](err) }
