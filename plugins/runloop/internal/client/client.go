// Package client is the Runloop API as the backend uses it: the generated client of plugins/runloop/api with the key, connection
// pools, limits and the documented repeats. Errors are *rterr.Error with Runloop's own words as evidence.
//
// It is safe for use by many goroutines. The service of this plugin alone imports it.
package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Config is how requests are sent.
type Config struct {
	// BaseURL of the API, without a slash at its end.
	BaseURL   string
	UserAgent string
	// Retries of one request, Delay before the first one, MaxDelay between any two unless the API asks for more.
	Retries         int
	Delay, MaxDelay time.Duration
	// Logger may be nil. Keys and bodies are never logged.
	Logger hclog.Logger
}

// Client sends requests. Make it with New; Close lets go of its connections.
type Client struct {
	cfg  Config
	doer *doer
	api  *api.Client
	key  *atomic.Pointer[string]
}

// New returns a client with a key. No I/O. Errors are ConfigInvalid.
func New(cfg Config, key string) (*Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Client{cfg: cfg, key: &atomic.Pointer[string]{}}
	c.SetKey(key)
	c.doer = newDoer(cfg, c.key)
	generated, err := api.NewClient(cfg.BaseURL, api.WithHTTPClient(c.doer))
	if err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, "new runloop client", "%v", err).WithField("base_url")
	}
	c.api = generated
	return c, nil
}

// SetKey changes the key of every request from now on, also of further tries of those that are under way.
func (c *Client) SetKey(key string) { c.key.Store(&key) }

// Config returns how requests are sent.
func (c *Client) Config() Config { return c.cfg }

// Close closes the connections that are not in use.
func (c *Client) Close() { c.doer.close() }

// NewRequestID returns an x-request-id for a call that its caller may have to send again.
func NewRequestID() string { return "openhands-rt-" + uuid.NewString() }

// send makes one call of the generated client; errors become the house's.
func (c *Client) send(
	ctx context.Context, operation string, one *call, do func(context.Context) (*http.Response, error),
) (*http.Response, error) {
	resp, err := do(with(ctx, one)) //nolint:bodyclose // closed by whoever reads it
	if err == nil {
		return resp, nil
	}
	f, ok := asFailure(err)
	if !ok {
		f = &failure{err: err, sent: true}
	}
	return nil, f.toError(ctx, operation, one.attempts)
}

// ask is send for an answer in JSON.
func ask[T any](
	ctx context.Context, c *Client, operation string, one *call, do func(context.Context) (*http.Response, error),
) (*T, error) {
	resp, err := c.send(ctx, operation, one, do)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var v T
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return nil, rterr.New(rterr.Provider, operation, "the answer cannot be read: %v", err)
	}
	return &v, nil
}

// tell is send for an answer that says nothing.
func (c *Client) tell(ctx context.Context, operation string, one *call, do func(context.Context) (*http.Response, error)) error {
	resp, err := c.send(ctx, operation, one, do)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body) // It was read whole before.
	return resp.Body.Close()
}

// Me returns the account of the key, the Date of the answer and how long it took.
func (c *Client) Me(ctx context.Context) (account *api.AccountView, date time.Time, took time.Duration, err error) {
	const operation = "ask for the account"
	began := time.Now()
	resp, err := c.send(ctx, operation, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.RetrieveMyAccount(ctx)
	})
	if err != nil {
		return nil, time.Time{}, 0, err
	}
	defer resp.Body.Close()
	took = time.Since(began)
	date, _ = http.ParseTime(resp.Header.Get("Date")) // Zero: it was not said.
	account = &api.AccountView{}
	if err := json.NewDecoder(resp.Body).Decode(account); err != nil {
		return nil, date, took, rterr.New(rterr.Provider, operation, "the answer cannot be read: %v", err)
	}
	return account, date, took, nil
}
