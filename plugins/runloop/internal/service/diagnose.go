package service

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The bounds of Diagnose.
const (
	// dialLook bounds the look at the network path.
	dialLook = 5 * time.Second
	// slowAnswer is what a small request should not take; clockSkew how much two clocks may differ.
	slowAnswer, clockSkew = 2 * time.Second, 30 * time.Second
)

// Diagnose checks what a devbox needs: the network path, the service, the key, the account's quota, and the clock.
func (s *Service) Diagnose(ctx context.Context, _ *backendv1.DiagnoseRequest) (*backendv1.DiagnoseResponse, error) {
	set, err := s.configured("diagnose")
	if err != nil {
		return nil, err
	}
	account, date, took, meErr := set.api.Me(ctx)
	return &backendv1.DiagnoseResponse{Checks: []*backendv1.Check{
		networkCheck(ctx, set), serviceCheck(took, meErr), keyCheck(account, meErr), s.quotaCheck(ctx, set, account, meErr),
		clockCheck(date, meErr),
	}}, nil
}

func networkCheck(ctx context.Context, set *settings) *backendv1.Check {
	c := &backendv1.Check{Name: "network"}
	u, err := url.Parse(set.BaseURL)
	if err != nil {
		c.Detail, c.Remedy = err.Error(), "correct base_url"
		return c
	}
	port := orElse(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	ctx, cancel := context.WithTimeout(ctx, dialLook)
	defer cancel()
	began := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		c.Detail = fmt.Sprintf("%s cannot be reached directly: %v", u.Host, err)
		c.Remedy = "check DNS, firewall and proxy; HTTPS_PROXY must be in the backend's env_allow to reach the plugin"
		return c
	}
	_ = conn.Close() // It was only to see.
	c.Ok, c.Detail = true, fmt.Sprintf("%s answers in %v", u.Host, time.Since(began).Round(time.Millisecond))
	return c
}

func serviceCheck(took time.Duration, err error) *backendv1.Check {
	c := &backendv1.Check{Name: "service", Ok: true, Detail: fmt.Sprintf("it answers in %v", took.Round(time.Millisecond))}
	switch {
	case err == nil && took > slowAnswer:
		c.Ok, c.Remedy = false, "see Runloop's status page"
	case rterr.Is(err, rterr.Unauthenticated, rterr.PermissionDenied):
		c.Detail = "it answers"
	case err != nil:
		c.Ok, c.Detail, c.Remedy = false, err.Error(), "see Runloop's status page, and the network check"
	}
	return c
}

func keyCheck(account *api.AccountView, err error) *backendv1.Check {
	c := &backendv1.Check{Name: "key"}
	switch {
	case err == nil:
		c.Ok, c.Detail = true, "it is that of account "+account.Name
	case rterr.Is(err, rterr.Unauthenticated, rterr.PermissionDenied):
		c.Detail, c.Remedy = err.Error(), rterr.From(err).Remedy
	default:
		c.Detail, c.Remedy = "it could not be checked", "see the service check"
	}
	return c
}

func (s *Service) quotaCheck(ctx context.Context, set *settings, account *api.AccountView, err error) *backendv1.Check {
	c := &backendv1.Check{Name: "quota", Detail: "it could not be checked", Remedy: "see the key check"}
	if err != nil {
		return c
	}
	if account.AccountStatus != api.AccountViewAccountStatusACCOUNTSTATUSENABLED {
		c.Detail = fmt.Sprintf("the account is %s, tier %s", account.AccountStatus, account.Tier)
		c.Remedy = "see the account in Runloop's dashboard"
		return c
	}
	running, err := s.scan(ctx, set, api.DevboxStatusRunning)
	if err != nil {
		c.Detail, c.Remedy = err.Error(), "see the service check"
		return c
	}
	c.Ok, c.Remedy = true, ""
	c.Detail = fmt.Sprintf("%d devboxes run, tier %s", len(running), account.Tier)
	return c
}

func clockCheck(date time.Time, err error) *backendv1.Check {
	c := &backendv1.Check{Name: "clock", Ok: true, Detail: "Runloop's time is not known"}
	if err != nil || date.IsZero() {
		return c
	}
	skew := time.Since(date)
	c.Detail = fmt.Sprintf("it differs from Runloop's by %v", skew.Round(time.Second))
	if skew.Abs() > clockSkew {
		c.Ok, c.Remedy = false, "set this machine's clock, by NTP"
	}
	return c
}
