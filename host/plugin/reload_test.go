package plugin

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestReloadOfConfigKeepsTheProcess(t *testing.T) {
	r := started(t, specFor("plain", `{"Warning":"one"}`))
	pid := r.ask(t, "")
	if err := r.Reload(t.Context(), specFor("plain", `{"Warning":"two"}`)); err != nil {
		t.Fatal(err)
	}
	if got := r.ask(t, "warning"); got != "two" || r.ask(t, "") != pid {
		t.Errorf("config %q, pid %s then %s", got, pid, r.ask(t, ""))
	}
	if s := r.Snapshot(); len(s.Warnings) != 1 || s.Warnings[0] != "two" || s.Starts != 1 {
		t.Errorf("Snapshot = %+v", s)
	}
	err := r.Reload(t.Context(), specFor("plain", `{"Refuse":"region"}`))
	if !rterr.Is(err, rterr.ConfigInvalid) {
		t.Errorf("Reload = %v", err)
	}
	if got := r.ask(t, "warning"); got != "two" || r.Snapshot().State != Running {
		t.Errorf("a refused config changed something: %q, %v", got, r.Snapshot().State)
	}
}

func TestReloadOfProcessSwaps(t *testing.T) {
	r := started(t, specFor("plain", ""))
	old := r.client(t)
	pid := r.Snapshot().PID
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := old.Close(ctx, &backendv1.CloseRequest{AgentCredential: "wait"})
		done <- err
	}()
	r.log.await(t, "waiting")
	spec := specFor("plain", "")
	spec.Env["NEW"] = "1"
	if err := r.Reload(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.ask(t, "env"), "NEW=1") {
		t.Error("the new process does not answer")
	}
	select {
	case err := <-done:
		t.Errorf("the swap cut a running call: %v", err)
	default:
	}
	cancel()
	<-done
	awaitGone(t, pid)

	bad := specFor("exit", "")
	if err := r.Reload(t.Context(), bad); !rterr.Is(err, rterr.PluginUnavailable) {
		t.Errorf("Reload = %v", err)
	}
	if r.Snapshot().State != Running || !strings.Contains(r.ask(t, "env"), "NEW=1") {
		t.Error("a failed reload took the old plugin down")
	}
}

func TestReloadRefusals(t *testing.T) {
	r := newRig(t, specFor("plain", ""))
	if err := r.Reload(t.Context(), specFor("plain", "")); !rterr.Is(err, rterr.IllegalState) {
		t.Errorf("Reload before Start = %v", err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); !rterr.Is(err, rterr.IllegalState) {
		t.Errorf("a second Start = %v", err)
	}
	other := specFor("plain", "")
	other.Backend = "other"
	if err := r.Reload(t.Context(), other); !rterr.Is(err, rterr.InvalidArgument) {
		t.Errorf("Reload of another backend = %v", err)
	}
	if err := r.Reload(t.Context(), specFor("plain", "{")); !rterr.Is(err, rterr.ConfigInvalid) {
		t.Errorf("Reload with broken JSON = %v", err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.Reload(t.Context(), specFor("plain", "")); !rterr.Is(err, rterr.Unavailable) {
		t.Errorf("Reload after Stop = %v", err)
	}
}

func TestCredentialsAreResolvedAnewAndMasked(t *testing.T) {
	var calls atomic.Int32
	secrets := []string{"first-secret", "second-secret"}
	r := started(t, specFor("plain", `{"Say":"I know"}`), func(o *Options) {
		o.Credentials = func(context.Context, Spec) (map[string]string, error) {
			return map[string]string{"token": secrets[calls.Add(1)-1]}, nil
		}
	})
	r.log.await(t, "I know (token)")
	if err := r.Reconfigure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if calls.Load() != 2 {
		t.Errorf("resolved %d times", calls.Load())
	}
	text := r.log.String() + strings.Join(r.Snapshot().Output.Lines, "\n")
	if strings.Contains(text, "first-secret") || strings.Contains(text, "second-secret") {
		t.Errorf("a secret was written:\n%s", text)
	}
	if strings.Count(strings.Join(r.Snapshot().Output.Lines, "\n"), "I know (token)") != 2 {
		t.Errorf("the tail lost a line: %q", r.Snapshot().Output.Lines)
	}
}

func TestCredentialsThatCannotBeResolved(t *testing.T) {
	r := started(t, specFor("plain", ""), func(o *Options) {
		o.Credentials = func(context.Context, Spec) (map[string]string, error) { return nil, errors.New("no such file") }
	})
	if s := r.await(t, Misconfigured); !strings.Contains(s.LastError.Error(), "no such file") {
		t.Errorf("%v", s.LastError)
	}
}

func TestFailedAdoptionIsTriedAgain(t *testing.T) {
	var calls atomic.Int32
	r := started(t, specFor("plain", ""), func(o *Options) {
		o.OnUp = func(context.Context, backendv1.BackendServiceClient, *backendv1.DescribeResponse) error {
			if calls.Add(1) == 1 {
				return errors.New("the store is away")
			}
			return nil
		}
	})
	r.ask(t, "")
	if s := r.Snapshot(); s.Starts != 2 || !strings.Contains(s.LastError.Error(), "adopt what backend b has: the store is away") {
		t.Errorf("starts %d, %v", s.Starts, s.LastError)
	}
}

func TestClientIsNotHandedOutBeforeAdoption(t *testing.T) {
	enter, leave := make(chan struct{}), make(chan struct{})
	r := started(t, specFor("plain", ""), func(o *Options) {
		o.OnUp = func(context.Context, backendv1.BackendServiceClient, *backendv1.DescribeResponse) error {
			close(enter)
			<-leave
			return nil
		}
	})
	<-enter
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Client(ctx); !rterr.Is(err, rterr.Cancelled) || rterr.From(err).Ran != rterr.RanNo {
		t.Errorf("Client during adoption = %v", err)
	}
	close(leave)
	r.ask(t, "")
}

func TestDeathDuringAdoption(t *testing.T) {
	var calls atomic.Int32
	r := started(t, specFor("plain", ""), func(o *Options) {
		o.OnUp = func(ctx context.Context, c backendv1.BackendServiceClient, _ *backendv1.DescribeResponse) error {
			if calls.Add(1) > 1 {
				return nil
			}
			go func() { _, _ = c.Close(context.Background(), &backendv1.CloseRequest{AgentCredential: "exit"}) }()
			<-ctx.Done() // the plugin's death ends the adoption
			return ctx.Err()
		}
	})
	r.ask(t, "")
	if e := rterr.From(r.Snapshot().LastError); e.Reason != rterr.PluginUnavailable || e.Evidence["exit_status"] != "exit status 3" {
		t.Errorf("%v, evidence %v", e, e.Evidence)
	}
}

func TestOtherProtocolIsRefused(t *testing.T) {
	spec := specFor("plain", "")
	spec.Env["PLUGIN_TEST_PROTOCOL"] = "2"
	r := started(t, spec)
	if s := r.await(t, Misconfigured); !strings.Contains(s.LastError.Error(), "protocol 2") {
		t.Errorf("%v", s.LastError)
	}
}
