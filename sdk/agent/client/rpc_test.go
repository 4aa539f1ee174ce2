package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func action(id string) *agentv1.ExecuteRequest {
	return &agentv1.ExecuteRequest{Action: &agentv1.Action{Id: id, Kind: "process", Payload: []byte("{}")}}
}

func wantReason(t *testing.T, err error, want rterr.Reason) *rterr.Error {
	t.Helper()
	e := rterr.From(err)
	if e == nil || e.Reason != want {
		t.Fatalf("got %v (cause %v), want reason %v", err, errors.Unwrap(errors.Unwrap(err)), want)
	}
	if strings.Contains(e.Error(), credential) {
		t.Errorf("the credential is in %q", e)
	}
	return e
}

func mustNot(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestInfo(t *testing.T) {
	a := start(t, func(s *server.Config, _ *files.Config) { s.Lease = time.Hour })
	info, err := a.client(t).Info(t.Context())
	mustNot(t, err)
	if info.Nonce != "n-1" || info.SandboxId != "s-1" || info.RuntimeId != "r-1" || info.Generation != 7 || info.Username != "u" ||
		info.Workspace != a.dir || info.Home != "/home/u" || info.Version != "v" || info.TreeControl != "walk" ||
		info.Pid != int64(os.Getpid()) || !slices.Equal(info.Kinds, []string{"process", "run"}) || info.StartedAt == nil {
		t.Errorf("%v", info)
	}
	if until := info.LeaseUntil.AsTime(); time.Until(until) < 50*time.Minute {
		t.Errorf("lease until %v", until)
	}
}

func TestWrongCredentialIsRefusedEverywhere(t *testing.T) {
	a := start(t)
	for _, secret := range []string{"wrong", credential + "x", credential[:5]} {
		c := dial(t, "unix://"+a.path, secret)
		_, err := c.Info(t.Context())
		wantReason(t, err, rterr.Unauthenticated)
		_, err = c.Execute(t.Context(), action("a"))
		if e := wantReason(t, err, rterr.Unauthenticated); e.Ran != rterr.RanNo {
			t.Errorf("ran %v", e.Ran)
		}
		_, err = c.Shutdown(t.Context(), &agentv1.ShutdownRequest{})
		wantReason(t, err, rterr.Unauthenticated)
		_, err = c.Download(t.Context(), client.DownloadOptions{Path: "x"}, io.Discard)
		wantReason(t, err, rterr.Unauthenticated)
		_, err = c.Upload(t.Context(), client.UploadOptions{Path: "x"}, strings.NewReader("x"))
		wantReason(t, err, rterr.Unauthenticated)
		rt, base := c.HTTP()
		for _, path := range []string{"/ports/1/", "/nothing"} {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", base.String()+path, nil)
			resp, err := rt.RoundTrip(r)
			mustNot(t, err)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
	}
	if n := len(a.engine.List(false, 10)); n != 0 {
		t.Errorf("%d actions came through", n)
	}
}

func recv(t *testing.T, s agent.Stream) *agentv1.ActionEvent {
	t.Helper()
	ev, err := s.Recv()
	mustNot(t, err)
	return ev
}

// drain reads to the observation and returns the output.
func drain(t *testing.T, s agent.Stream) string {
	t.Helper()
	var out strings.Builder
	for {
		ev := recv(t, s)
		if o := ev.GetOutput(); o != nil {
			out.Write(o.GetData())
		}
		if ev.GetObservation() == nil {
			continue
		}
		for range 2 {
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("after the observation: %v", err)
			}
		}
		mustNot(t, s.Close())
		return out.String()
	}
}

func TestExecuteStreamsEveryEventAsItComes(t *testing.T) {
	a := start(t)
	s, err := a.client(t).Execute(t.Context(), action("a-1"))
	mustNot(t, err)
	if ev := recv(t, s); ev.GetRecord().GetId() != "a-1" {
		t.Fatalf("%v", ev)
	}
	for _, text := range []string{"one", "two"} { // each is seen before the next is made: flushed
		a.engine.emit("a-1", text)
		if got := string(recv(t, s).GetOutput().GetData()); got != text {
			t.Fatalf("%q", got)
		}
	}
	a.engine.finish("a-1")
	if got := drain(t, s); got != "" {
		t.Errorf("%q", got)
	}
}

func TestExecuteMintsAnID(t *testing.T) {
	a := start(t)
	a.engine.instant = true
	req := action("")
	s, err := a.client(t).Execute(t.Context(), req)
	mustNot(t, err)
	if id := recv(t, s).GetRecord().GetId(); !strings.HasPrefix(id, "a-") || req.GetAction().GetId() != "" {
		t.Errorf("id %q, request's %q", id, req.GetAction().GetId())
	}
	if got := drain(t, s); got != "ok" {
		t.Errorf("%q", got)
	}
}

func TestAttachGoesOnAfterACut(t *testing.T) {
	a := start(t)
	proxy := newCutter(t, a.path)
	c := dial(t, proxy.address(), credential)
	s, err := c.Execute(t.Context(), action("a-1"))
	mustNot(t, err)
	recv(t, s)
	a.engine.emit("a-1", "before ")
	got := string(recv(t, s).GetOutput().GetData())
	proxy.cut()
	_, err = s.Recv()
	if e := wantReason(t, err, rterr.Network); !e.Retryable || e.Evidence["address"] != proxy.address() {
		t.Errorf("%+v", e)
	}
	mustNot(t, s.Close())
	a.engine.emit("a-1", "after")
	s, err = c.Attach(t.Context(), &agentv1.AttachRequest{ActionId: "a-1", From: []*agentv1.OutputCursor{
		{Channel: agentv1.Channel_CHANNEL_STDOUT, Offset: uint64(len(got))},
	}})
	mustNot(t, err)
	a.engine.finish("a-1")
	if got += drain(t, s); got != "before after" {
		t.Errorf("%q", got)
	}
}

func TestCloseUnblocksRecv(t *testing.T) {
	a := start(t)
	s, err := a.client(t).Execute(t.Context(), action("a-1"))
	mustNot(t, err)
	recv(t, s)
	failed := make(chan error)
	go func() {
		_, err := s.Recv()
		failed <- err
	}()
	mustNot(t, s.Close())
	mustNot(t, s.Close())
	if err := <-failed; err == nil {
		t.Error("an event after Close")
	}
	if a.engine.Active() != 1 {
		t.Error("closing the stream ended the action")
	}
}

func TestTransportFailuresSayWhetherItRan(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		c := dial(t, "unix://"+filepath.Join(t.TempDir(), "none.sock"), credential)
		_, err := c.Execute(t.Context(), action("a"))
		if e := wantReason(t, err, rterr.Network); e.Ran != rterr.RanNo || !strings.HasSuffix(e.Evidence["address"], "none.sock") {
			t.Errorf("%+v", e)
		}
	})
	t.Run("cut before the record", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		mustNot(t, err)
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 10))
				_ = conn.Close()
			}
		}()
		c := dial(t, "http://"+ln.Addr().String(), credential)
		_, err = c.Execute(t.Context(), action("a"))
		if e := wantReason(t, err, rterr.Network); e.Ran != rterr.RanUnknown {
			t.Errorf("%+v", e)
		}
		_, err = c.Info(t.Context())
		if e := wantReason(t, err, rterr.Network); e.Ran != rterr.RanUnspecified {
			t.Errorf("%+v", e)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		a := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := a.client(t).Execute(ctx, action("a"))
		wantReason(t, err, rterr.Cancelled)
	})
}

func TestEveryOtherRPC(t *testing.T) {
	a := start(t)
	c := a.client(t)
	ctx := t.Context()
	s, err := c.Execute(ctx, action("a-1"))
	mustNot(t, err)
	in, err := c.Input(ctx, &agentv1.InputRequest{ActionId: "a-1", Data: []byte("hello")})
	mustNot(t, err)
	if in.NextOffset != 5 {
		t.Error(in)
	}
	_, err = c.Input(ctx, &agentv1.InputRequest{ActionId: "a-1", Data: make([]byte, 1<<20+1)})
	wantReason(t, err, rterr.InvalidArgument)
	_, err = c.Resize(ctx, &agentv1.ResizeRequest{ActionId: "a-1", Rows: 10, Cols: 20})
	mustNot(t, err)
	_, err = c.Resize(ctx, &agentv1.ResizeRequest{ActionId: "a-1", Rows: 10, Cols: 70000})
	if e := wantReason(t, err, rterr.InvalidArgument); e.Field != "cols" {
		t.Errorf("%+v", e)
	}
	got, err := c.GetAction(ctx, &agentv1.GetActionRequest{ActionId: "a-1"})
	mustNot(t, err)
	if got.Record.State != agentv1.ActionState_ACTION_STATE_RUNNING {
		t.Error(got)
	}
	_, err = c.GetAction(ctx, &agentv1.GetActionRequest{ActionId: "a-2"})
	if e := wantReason(t, err, rterr.NotFound); e.Ran != rterr.RanNo {
		t.Errorf("%+v", e)
	}
	_, err = c.Attach(ctx, &agentv1.AttachRequest{ActionId: "a-2"})
	if e := wantReason(t, err, rterr.NotFound); e.Ran != rterr.RanNo {
		t.Errorf("%+v", e)
	}
	_, err = c.Interrupt(ctx, &agentv1.InterruptRequest{ActionId: "a-1", Level: 9})
	wantReason(t, err, rterr.InvalidArgument)
	hit, err := c.Interrupt(ctx, &agentv1.InterruptRequest{ActionId: "a-1"})
	mustNot(t, err)
	again, err := c.Interrupt(ctx, &agentv1.InterruptRequest{ActionId: "a-1"})
	mustNot(t, err)
	if !hit.Signalled || again.Signalled {
		t.Error(hit, again)
	}
	drain(t, s)
	list, err := c.ListActions(ctx, &agentv1.ListActionsRequest{})
	mustNot(t, err)
	if len(list.Records) != 1 || list.Records[0].Observation == nil || list.Records[0].Observation.Payload != nil {
		t.Error(list)
	}
	if record, _ := a.engine.Get("a-1"); string(record.Observation.Payload) != "{}" {
		t.Error("the engine's own record was changed")
	}
	list, err = c.ListActions(ctx, &agentv1.ListActionsRequest{Active: true})
	mustNot(t, err)
	if len(list.Records) != 0 {
		t.Error(list)
	}
}

func TestBodyLimitAndPanic(t *testing.T) {
	a := start(t)
	c := a.client(t)
	big := action("big")
	big.Action.Payload = make([]byte, 9<<20)
	_, err := c.Execute(t.Context(), big)
	wantReason(t, err, rterr.LimitExceeded)
	bad := action("p")
	bad.Action.Kind = "panic"
	_, err = c.Execute(t.Context(), bad)
	wantReason(t, err, rterr.Internal)
	_, err = c.Info(t.Context())
	mustNot(t, err)
}

func TestFreezeRefusesNewActionsAlone(t *testing.T) {
	a := start(t)
	c := a.client(t)
	ctx := t.Context()
	s, err := c.Execute(ctx, action("old"))
	mustNot(t, err)
	for range 2 {
		_, err = c.Freeze(ctx, &agentv1.FreezeRequest{})
		mustNot(t, err)
	}
	info, err := c.Info(ctx)
	mustNot(t, err)
	if !info.Frozen || !a.tree.frozen {
		t.Error("not frozen")
	}
	_, err = c.Execute(ctx, action("new"))
	if e := wantReason(t, err, rterr.SandboxPaused); e.Ran != rterr.RanNo {
		t.Errorf("%+v", e)
	}
	known, err := c.Execute(ctx, action("old"))
	mustNot(t, err)
	_, err = c.Thaw(ctx, &agentv1.ThawRequest{})
	mustNot(t, err)
	a.engine.finish("old")
	drain(t, s)
	drain(t, known)
	a.tree.mu.Lock()
	a.tree.fail = errors.New("no freezer")
	a.tree.mu.Unlock()
	_, err = c.Freeze(ctx, &agentv1.FreezeRequest{})
	wantReason(t, err, rterr.Internal)
}

func TestShutdownKillsAnswersAndEnds(t *testing.T) {
	a := start(t)
	c := a.client(t)
	s, err := c.Execute(t.Context(), action("a-1"))
	mustNot(t, err)
	recv(t, s)
	answer, err := c.Shutdown(t.Context(), &agentv1.ShutdownRequest{})
	mustNot(t, err)
	if answer.Killed != 3 {
		t.Error(answer)
	}
	_, err = s.Recv()
	wantReason(t, err, rterr.Unavailable)
	mustNot(t, s.Close())
	if err := ended(t, a); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(a.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if a.tree.kills != 2 || !a.engine.closed {
		t.Errorf("%d rounds, closed %v", a.tree.kills, a.engine.closed)
	}
	_, err = c.Info(t.Context())
	wantReason(t, err, rterr.Network)
}

func TestLeaseEndKillsTheTree(t *testing.T) {
	t.Run("by time", func(t *testing.T) {
		a := start(t, func(s *server.Config, _ *files.Config) { s.Lease = 30 * time.Millisecond })
		if err := ended(t, a); !errors.Is(err, server.ErrLeaseEnded) {
			t.Error(err)
		}
		if a.tree.kills == 0 || !a.engine.closed {
			t.Error("the tree lives")
		}
	})
	t.Run("at once", func(t *testing.T) {
		a := start(t, func(s *server.Config, _ *files.Config) { s.Lease = time.Hour })
		c := a.client(t)
		_, err := c.RenewLease(t.Context(), &agentv1.RenewLeaseRequest{Lease: durationpb.New(-1)})
		wantReason(t, err, rterr.InvalidArgument)
		answer, err := c.RenewLease(t.Context(), &agentv1.RenewLeaseRequest{Lease: durationpb.New(2 * time.Hour)})
		mustNot(t, err)
		if time.Until(answer.LeaseUntil.AsTime()) < 110*time.Minute {
			t.Error(answer)
		}
		_, err = c.RenewLease(t.Context(), &agentv1.RenewLeaseRequest{Lease: durationpb.New(0)})
		mustNot(t, err)
		if err := ended(t, a); !errors.Is(err, server.ErrLeaseEnded) {
			t.Error(err)
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	a := start(t)
	s, err := a.client(t).Execute(t.Context(), action("a-1"))
	mustNot(t, err)
	defer s.Close()
	a.stop()
	if err := ended(t, a); err != nil {
		t.Error(err)
	}
	if a.tree.kills == 0 {
		t.Error("the tree lives")
	}
}

func TestListPorts(t *testing.T) {
	a := start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	mustNot(t, err)
	defer ln.Close()
	port := uint32(ln.Addr().(*net.TCPAddr).Port)
	c := a.client(t)
	answer, err := c.ListPorts(t.Context(), &agentv1.ListPortsRequest{})
	mustNot(t, err)
	if len(answer.Ports) != 0 {
		t.Errorf("ports of processes outside the tree: %v", answer.Ports)
	}
	a.tree.mu.Lock()
	a.tree.pids = []int{os.Getpid()}
	a.tree.mu.Unlock()
	answer, err = c.ListPorts(t.Context(), &agentv1.ListPortsRequest{})
	mustNot(t, err)
	if !slices.Contains(answer.Ports, port) {
		t.Errorf("%v has no %d", answer.Ports, port)
	}
}

func TestNewNamesTheField(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg   client.Config
		field string
	}{
		"no scheme":         {client.Config{Address: "localhost:1", Credential: "c"}, "address"},
		"unix two slashes":  {client.Config{Address: "unix://tmp/x", Credential: "c"}, "address"},
		"unix relative":     {client.Config{Address: "unix:x", Credential: "c"}, "address"},
		"no host":           {client.Config{Address: "http://", Credential: "c"}, "address"},
		"path in address":   {client.Config{Address: "http://h/p", Credential: "c"}, "address"},
		"password":          {client.Config{Address: "http://u:p@h", Credential: "c"}, "address"},
		"query":             {client.Config{Address: "http://h?x=y", Credential: "c"}, "address"},
		"no credential":     {client.Config{Address: "http://h"}, "credential"},
		"credential broken": {client.Config{Address: "http://h", Credential: "a\nb"}, "credential"},
		"header broken":     {client.Config{Address: "http://h", Credential: "c", Headers: map[string]string{"a b": "c"}}, "headers"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.New(tc.cfg)
			if e := wantReason(t, err, rterr.InvalidArgument); e.Field != tc.field {
				t.Errorf("field %q", e.Field)
			}
		})
	}
}

func TestPrefixAndHeadersGoAlong(t *testing.T) {
	a := start(t)
	seen := make(chan http.Header, 8)
	direct := a.client(t)
	rt, _ := direct.HTTP()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	mustNot(t, err)
	tunnel := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", "agent"
		var ok bool
		if out.URL.Path, ok = strings.CutPrefix(r.URL.Path, "/tunnel/7"); !ok {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		resp, err := rt.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})}
	done := make(chan error, 1)
	go func() { done <- tunnel.Serve(ln) }()
	defer func() { _ = tunnel.Close(); <-done }()
	c, err := client.New(client.Config{
		Address: "http://" + ln.Addr().String(), Path: "tunnel/7/", Headers: map[string]string{"X-Tunnel": "t"}, Credential: credential,
	})
	mustNot(t, err)
	defer c.Close()
	_, err = c.Info(t.Context())
	mustNot(t, err)
	if h := <-seen; h.Get("X-Tunnel") != "t" || h.Get("Authorization") != "Bearer "+credential || h.Get("Idempotency-Key") != "" {
		t.Errorf("%v", h)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	a := start(t)
	a.engine.instant = true
	c := a.client(t)
	fresh := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if !got.Reused {
			fresh++
		}
	}})
	for range 20 {
		s, err := c.Execute(ctx, action("x"))
		mustNot(t, err)
		for recv(t, s).GetObservation() == nil {
		}
		mustNot(t, s.Close()) // without reading to io.EOF
		_, err = c.Thaw(ctx, &agentv1.ThawRequest{})
		mustNot(t, err)
	}
	if fresh > 2 {
		t.Errorf("%d connections for 40 calls", fresh)
	}
}
