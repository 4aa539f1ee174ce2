package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func over(l *lease) bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLease()
		l.start(0)
		if !l.deadline().IsZero() {
			t.Error("a deadline from nothing")
		}
		l.start(10 * time.Second)
		time.Sleep(9 * time.Second)
		if until, ok := l.renew(10 * time.Second); !ok || time.Until(until) != 10*time.Second {
			t.Error(until, ok)
		}
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if over(l) {
			t.Fatal("it ended although it was renewed")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !over(l) {
			t.Fatal("it did not end")
		}
		if _, ok := l.renew(time.Hour); ok {
			t.Error("renewed after its end")
		}
	})
}

func TestLeaseShortened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLease()
		l.start(time.Hour)
		l.renew(time.Second)
		time.Sleep(time.Second)
		synctest.Wait()
		if !over(l) {
			t.Error("it did not end")
		}
		l = newLease()
		l.start(time.Hour)
		l.renew(0)
		if !over(l) {
			t.Error("zero did not end it at once")
		}
		l = newLease()
		l.start(time.Second)
		l.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if over(l) {
			t.Error("ended after stop")
		}
	})
}

func TestPulseBeatsOnQuietStreamsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats, outputs atomic.Int64
		p := newPulse(&flusher{}, 10*time.Second, func(ev *agentv1.ActionEvent) error {
			if ev.GetHeartbeat() != nil {
				beats.Add(1)
			} else {
				outputs.Add(1)
			}
			return nil
		})
		for range 5 {
			time.Sleep(9 * time.Second)
			if err := p.Send(&agentv1.ActionEvent{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if beats.Load() != 0 || outputs.Load() != 5 {
			t.Errorf("%d beats, %d outputs", beats.Load(), outputs.Load())
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if beats.Load() != 3 {
			t.Errorf("%d beats in 30 s of silence", beats.Load())
		}
		p.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if beats.Load() != 3 || p.Send(&agentv1.ActionEvent{}) == nil {
			t.Error("sent after stop")
		}
	})
}

// flushes counts the flushes of a response.
type flushes struct {
	http.ResponseWriter
	n atomic.Int64
}

func (f *flushes) Flush() { f.n.Add(1) }

func TestPulseSendsTheFirstMomentInOnePiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &flushes{}
		f := &flusher{ResponseWriter: out}
		p := newPulse(f, time.Hour, func(*agentv1.ActionEvent) error { f.Flush(); return nil })
		defer p.stop()
		step := func(what string, ev *agentv1.ActionEvent, after time.Duration, want int64) {
			t.Helper()
			if err := p.Send(ev); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after)
			synctest.Wait()
			if got := out.n.Load(); got != want {
				t.Errorf("%d flushes after %s, want %d", got, what, want)
			}
		}
		step("the record", &agentv1.ActionEvent{}, firstMoment/4, 0)
		step("output in the first moment", &agentv1.ActionEvent{}, firstMoment/4, 0)
		time.Sleep(firstMoment)
		synctest.Wait()
		if got := out.n.Load(); got != 1 {
			t.Errorf("%d flushes after the first moment, want 1", got)
		}
		step("later output", &agentv1.ActionEvent{}, 0, 2)
		obs := &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{Observation: &agentv1.Observation{}}}
		step("the observation, which the stream's end follows", obs, 0, 2)
	})
}

func TestPulsePassesTheErrorOn(t *testing.T) {
	gone := errors.New("gone")
	p := newPulse(&flusher{}, time.Hour, func(*agentv1.ActionEvent) error { return gone })
	defer p.stop()
	if err := p.Send(&agentv1.ActionEvent{}); !errors.Is(err, gone) {
		t.Error(err)
	}
}

func TestGate(t *testing.T) {
	g := newGate()
	if !g.enter() {
		t.Fatal("closed from the start")
	}
	empty := g.close()
	if g.enter() {
		t.Error("entered a closed gate")
	}
	select {
	case <-empty:
		t.Error("empty with one inside")
	default:
	}
	g.leave()
	<-empty
	<-g.close()
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := New(Config{})
	if e := rterr.From(err); e.Reason != rterr.InvalidArgument || e.Field != "engine" {
		t.Error(err)
	}
}

func TestCredentialComparison(t *testing.T) {
	s := &Server{bearer: digestBearer("Bearer secret")}
	for header, want := range map[string]bool{
		"Bearer secret": true, "": false, "Bearer": false, "Bearer ": false, "Bearer secret ": false, "bearer secret": false,
		"secret": false, "Bearer secret2": false, "Basic secret": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", header)
		if s.allowed(r) != want {
			t.Errorf("%q: %v", header, !want)
		}
	}
}

func TestPanicsAreAnsweredAndLogged(t *testing.T) {
	var log strings.Builder
	s := &Server{bearer: digestBearer("Bearer secret"), requests: newGate(), log: hclog.New(&hclog.LoggerOptions{Output: &log})}
	h := s.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }))
	for _, path := range []string{"/files", rpcPrefix + "Info"} {
		r := httptest.NewRequestWithContext(context.Background(), "POST", path, strings.NewReader("{}"))
		r.Header.Set("Authorization", "Bearer secret")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "boom") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "server_test.go") {
		t.Errorf("no stack in %q", log.String())
	}
	if s.requests.inside != 0 {
		t.Error("a request is still counted")
	}
}

// OpenHands' client drops a connection that has idled for 5 s. Whoever keeps one for less than a minute must find it open.
func TestConnectionsMayIdleForLongerThanAMinute(t *testing.T) {
	s := &Server{log: hclog.NewNullLogger()}
	if web := s.webServer(t.Context(), nil); web.IdleTimeout <= time.Minute || web.ReadTimeout != 0 || web.WriteTimeout != 0 {
		t.Errorf("%v, %v, %v", web.IdleTimeout, web.ReadTimeout, web.WriteTimeout)
	}
}

func TestNewWantsAKeyForTheDirectListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = New(Config{Engine: noEngine{}, Tree: noTree{}, Files: &files.Service{}, Credential: "x", Direct: ln})
	if e := rterr.From(err); e == nil || e.Field != "direct_key" {
		t.Error(err)
	}
}

type noEngine struct{ Engine }

type noTree struct{ sandbox.Tree }
