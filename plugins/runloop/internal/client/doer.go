package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/google/uuid"
)

// kind says how a call may be repeated and how long it may take.
type kind uint8

const (
	// again: repeating it is harmless; every failure that passes is tried again.
	again kind = iota
	// once: only failures that surely had no effect are.
	once
	// poll: the API holds it; its 408 is an answer, and its caller asks again.
	poll
	// bulk is again with the time of a transfer.
	bulk
	// stream: the answer has no end of its own; the caller opens it again.
	stream
)

// callKey carries a *call in the context of a request.
type callKey struct{}

// call is one logical request with all its tries.
type call struct {
	kind kind
	// limit of one try; 0: that of the kind.
	limit time.Duration
	// attempts that were made.
	attempts int
}

func with(ctx context.Context, c *call) context.Context { return context.WithValue(ctx, callKey{}, c) }

// doer sends requests: it adds the key, repeats what may be repeated, and reads whole answers. It is what the generated client
// sends its requests with.
type doer struct {
	cfg Config
	key *atomic.Pointer[string]
	// small for requests, held for long polls and streams, large for files: one kind does not starve another.
	small, held, large *http.Client
}

func newDoer(cfg Config, key *atomic.Pointer[string]) *doer {
	client := func(buffer int) *http.Client {
		return &http.Client{Transport: newTransport(buffer), CheckRedirect: noRedirect}
	}
	return &doer{cfg: cfg, key: key, small: client(16 << 10), held: client(16 << 10), large: client(256 << 10)}
}

// noRedirect keeps the key from going anywhere else.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func newTransport(buffer int) *http.Transport {
	dialer := &net.Dialer{Timeout: dialLimit}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: tlsLimit,
		ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingLimit},
		MaxIdleConns: 128, MaxIdleConnsPerHost: 64, IdleConnTimeout: idleLimit,
		ReadBufferSize: buffer, WriteBufferSize: buffer,
	}
}

func (d *doer) close() {
	for _, c := range []*http.Client{d.small, d.held, d.large} {
		c.CloseIdleConnections()
	}
}

// Do implements the generated client's HttpRequestDoer. An answer that is an error, or none, is a *failure.
func (d *doer) Do(req *http.Request) (*http.Response, error) {
	c, ok := req.Context().Value(callKey{}).(*call)
	if !ok {
		return nil, errors.New("a request without a call")
	}
	if req.Method != http.MethodGet && req.Header.Get("X-Request-Id") == "" {
		req.Header.Set("X-Request-Id", "openhands-rt-"+uuid.NewString()) // One for all tries: the API's key of idempotency.
	}
	req.Header.Set("User-Agent", d.cfg.UserAgent)
	if c.kind == poll || c.kind == stream {
		c.attempts = 1
		return d.try(req, c)
	}
	got, err := failsafe.With(d.policy(c)).WithContext(req.Context()).
		GetWithExecution(func(e failsafe.Execution[answer]) (answer, error) {
			c.attempts = e.Attempts()
			resp, err := d.try(req, c) //nolint:bodyclose // closed by the generated client's caller
			return answer{resp}, err
		})
	return got.Response, err
}

// answer is a response on its way through the policy.
type answer struct{ *http.Response }

// policy is the documented one: which failures pass, x-should-retry, Retry-After, doubling waits with jitter, and never beyond the
// caller's deadline.
func (d *doer) policy(c *call) retrypolicy.RetryPolicy[answer] {
	return retrypolicy.NewBuilder[answer]().
		HandleIf(func(_ answer, err error) bool {
			f, ok := errors.AsType[*failure](err)
			return ok && f.passing(c.kind == once)
		}).
		WithMaxRetries(d.cfg.Retries).
		WithDelayFunc(func(e failsafe.ExecutionAttempt[answer]) time.Duration {
			if f, ok := errors.AsType[*failure](e.LastError()); ok && f.after > 0 {
				return f.after
			}
			return d.backoff(e.Attempts() - 1)
		}).
		OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[answer]) {
			d.cfg.Logger.Debug("a request is tried again", "attempt", e.Attempts(), "delay", e.Delay, "error", e.LastError())
		}).
		ReturnLastFailure().Build()
}

// backoff after so many retries: doubling, up to a quarter shorter by chance.
func (d *doer) backoff(retries int) time.Duration {
	delay := d.cfg.MaxDelay
	if retries < 16 {
		delay = min(delay, d.cfg.Delay<<retries)
	}
	return time.Duration(float64(delay) * (1 - rand.Float64()/4)) //nolint:gosec // spreads load, guards nothing
}

func (c *call) limitOf() time.Duration {
	switch {
	case c.limit > 0:
		return c.limit
	case c.kind == bulk:
		return transferLimit
	default:
		return requestLimit
	}
}

// try sends a request once.
func (d *doer) try(req *http.Request, c *call) (*http.Response, error) {
	key := d.key.Load()
	if key == nil || *key == "" {
		return nil, &failure{err: errors.New("there is no API key")}
	}
	ctx := req.Context()
	if c.kind != stream {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.limitOf())
		defer cancel()
	}
	one, err := copyOf(ctx, req)
	if err != nil {
		return nil, err
	}
	one.Header.Set("Authorization", "Bearer "+*key)
	if c.attempts > 1 {
		one.Header.Set("X-Stainless-Retry-Count", strconv.Itoa(c.attempts-1))
	}
	resp, err := d.clientOf(c.kind).Do(one) //nolint:bodyclose // closed below, or by the reader of a stream
	if err != nil {
		return nil, broken(err)
	}
	if c.kind == stream && resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	return whole(resp)
}

// copyOf makes a request that can be sent, with its body from the beginning.
func copyOf(ctx context.Context, req *http.Request) (*http.Request, error) {
	one := req.Clone(ctx)
	if req.GetBody == nil {
		return one, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, fmt.Errorf("read the body again: %w", err)
	}
	one.Body = body
	return one, nil
}

func (d *doer) clientOf(k kind) *http.Client {
	switch k {
	case poll, stream:
		return d.held
	case bulk:
		return d.large
	default:
		return d.small
	}
}

// whole reads an answer to its end, so that one that is cut is tried again like one that never came.
func whole(resp *http.Response) (*http.Response, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, broken(err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp, body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
