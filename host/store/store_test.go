package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashChildEnv); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// openAt opens a store that the test closes by itself.
func openAt(t *testing.T, dir string, bounds Bounds) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir, Bounds: bounds, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// openStore opens a store that ends with the test.
func openStore(t *testing.T, bounds Bounds) *Store {
	t.Helper()
	s := openAt(t, t.TempDir(), bounds)
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func runtimeRecord(id string) Runtime {
	return Runtime{
		ID: id, Principal: "p", SID: "s/" + id, Backend: "local", Status: lifecycle.Ready, Phase: 2, Generation: 3, Handle: []byte{0, 1, 255},
		AgentCredential: "agent-secret", SessionKey: "session-secret", Labels: map[string]string{"a": "b"}, CreatedAt: time.Unix(1, 2).UTC(),
	}
}

func TestRecordsSurviveAReopen(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Bounds{})
	owner, err := s.Owner(t.Context())
	if err != nil || !strings.HasPrefix(owner, "o-") {
		t.Fatalf("owner %q, %v", owner, err)
	}
	revision, err := s.SaveRuntime(t.Context(), runtimeRecord("r-1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Actions.Put(t.Context(), Action{ID: "a-1", RuntimeID: "r-1", State: 3, Observation: []byte("obs")}); err != nil {
		t.Fatal(err)
	}
	sequence, err := s.Events.Append(t.Context(), KeyOf("r-1"), []byte("event"))
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	s = openAt(t, dir, Bounds{})
	defer closeStore(t, s)
	if again, err := s.Owner(t.Context()); err != nil || again != owner {
		t.Errorf("owner %q became %q, %v", owner, again, err)
	}
	e, err := s.Runtimes.Get(t.Context(), KeyOf("r-1"))
	if err != nil || e.Revision != revision || e.Value.AgentCredential.Reveal() != "agent-secret" || string(e.Value.Handle) != "\x00\x01\xff" {
		t.Errorf("runtime %+v, %v", e, err)
	}
	if a, err := s.Actions.Get(t.Context(), "r-1", "a-1"); err != nil || string(a.Observation) != "obs" {
		t.Errorf("action %+v, %v", a, err)
	}
	events, err := s.Events.Read(t.Context(), 0, 10)
	if err != nil || len(events) != 1 || events[0].Sequence != sequence || string(events[0].Data) != "event" {
		t.Errorf("events %+v, %v", events, err)
	}
}

func TestASecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Bounds{})
	_, err := Open(t.Context(), Config{Dir: dir, Logger: hclog.NewNullLogger()})
	e := rterr.From(err)
	if e == nil || e.Reason != rterr.Unavailable || e.Retryable || e.Evidence["pid"] != fmt.Sprint(os.Getpid()) || !strings.Contains(e.Remedy, "data_dir") {
		t.Errorf("%v, %+v", err, e)
	}
	closeStore(t, s)
	closeStore(t, openAt(t, dir, Bounds{}))
}

func TestAFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Dir: filepath.Join(file, "store"), Logger: hclog.NewNullLogger()})
	if e := rterr.From(err); e == nil || e.Reason != rterr.ConfigInvalid || e.Field != "data_dir" {
		t.Errorf("%v", err)
	}
}

func TestNothingListensAndFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Bounds{})
	defer closeStore(t, s)
	if addr := s.server.Addr(); addr != nil {
		t.Errorf("the embedded server listens at %v", addr)
	}
	if _, err := s.SaveRuntime(t.Context(), runtimeRecord("r-1"), 0); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTheSameCodeOnAnExternalServer(t *testing.T) {
	external, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	external.Start()
	defer func() { external.Shutdown(); external.WaitForShutdown() }()
	if !external.ReadyForConnections(readyLimit) {
		t.Fatal("no server")
	}
	s, err := Open(t.Context(), Config{URL: external.ClientURL(), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	if _, err := s.SaveRuntime(t.Context(), runtimeRecord("r-1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnExternalServerThatIsNotThere(t *testing.T) {
	_, err := Open(t.Context(), Config{URL: "nats://127.0.0.1:1", Logger: hclog.NewNullLogger()})
	if e := rterr.From(err); e == nil || e.Reason != rterr.Network || e.Field != "store.url" {
		t.Errorf("%v", err)
	}
}

func TestSessionIDs(t *testing.T) {
	s := openStore(t, Bounds{})
	ctx := t.Context()
	claim := func(sid, runtime string) string {
		t.Helper()
		holder, err := s.ClaimSID(ctx, "p.1", sid, runtime)
		if err != nil {
			t.Fatal(err)
		}
		return holder
	}
	for _, sid := range []string{"plain", "with space", "dots.and.*.>", "ümlaut", strings.Repeat("長", 200)} {
		if holder := claim(sid, "r-1"); holder != "r-1" {
			t.Errorf("%q: held by %s", sid, holder)
		}
		if holder := claim(sid, "r-2"); holder != "r-1" {
			t.Errorf("%q: second claim says %s", sid, holder)
		}
		if err := s.ReleaseSID(ctx, "p.1", sid, "r-2"); err != nil {
			t.Error(err)
		}
		if id, err := s.LookupSID(ctx, "p.1", sid); err != nil || id != "r-1" {
			t.Errorf("%q: another's release freed it: %q, %v", sid, id, err)
		}
		if err := s.ReleaseSID(ctx, "p.1", sid, "r-1"); err != nil {
			t.Error(err)
		}
		if _, err := s.LookupSID(ctx, "p.1", sid); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("%q: still there: %v", sid, err)
		}
		if holder := claim(sid, "r-3"); holder != "r-3" {
			t.Errorf("%q: not free after the release: %s", sid, holder)
		}
	}
}

func TestOneClaimWins(t *testing.T) {
	s := openStore(t, Bounds{})
	const n = 16
	holders := make(chan string, n)
	for i := range n {
		go func() {
			holder, err := s.ClaimSID(t.Context(), "p", "sid", fmt.Sprintf("r-%d", i))
			holders <- fmt.Sprint(holder, err)
		}()
	}
	first := <-holders
	for range n - 1 {
		if got := <-holders; got != first {
			t.Errorf("%s and %s both hold it", first, got)
		}
	}
}

func TestAStoppedRuntimeGoesAway(t *testing.T) {
	dir := t.TempDir()
	bounds := Bounds{StoppedRuntimes: time.Second, DoneActions: time.Second}
	s := openAt(t, dir, bounds)
	r := runtimeRecord("r-1")
	revision, err := s.SaveRuntime(t.Context(), r, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SaveRuntime(t.Context(), runtimeRecord("r-live"), 0); err != nil {
		t.Fatal(err)
	}
	r.Status = lifecycle.Stopped
	if _, err := s.SaveRuntime(t.Context(), r, revision); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s) // the time goes on while nobody looks

	s = openAt(t, dir, bounds)
	defer closeStore(t, s)
	for change, err := range s.Runtimes.Watch(t.Context(), "r-1") {
		if err != nil {
			t.Fatal(err)
		}
		if change.Deleted {
			break
		}
	}
	if _, err := s.Runtimes.Get(t.Context(), KeyOf("r-1")); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("%v", err)
	}
	if all, err := s.Runtimes.All(t.Context()); err != nil || len(all) != 1 || all[0].Value.ID != "r-live" {
		t.Errorf("left: %+v, %v", all, err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	r := runtimeRecord("r-1")
	for _, text := range []string{
		fmt.Sprint(r), fmt.Sprintf("%+v", r), fmt.Sprintf("%#v", r), fmt.Sprintf("%q %x %s", r.SessionKey, r.SessionKey, r.AgentCredential),
	} {
		if strings.Contains(text, "-secret") || strings.Contains(text, "73657373696f6e") {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestCloseEndsWatches(t *testing.T) {
	s := openAt(t, t.TempDir(), Bounds{})
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		for change, err := range s.Runtimes.Watch(context.Background()) {
			if change.Current {
				close(started)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	<-started
	closeStore(t, s)
	if err := <-ended; errors.Is(err, context.Canceled) || !rterr.Is(err, rterr.Unavailable) {
		t.Errorf("%v", err)
	}
}
