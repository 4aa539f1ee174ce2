package record

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func config(path string) Config {
	return Config{Path: path, TTL: time.Hour, MaxRecords: 100, MaxBytes: 1 << 20}
}

func mustOpen(t *testing.T, cfg Config) *Journal {
	t.Helper()
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func rec(id string, state agentv1.ActionState) *agentv1.ActionRecord {
	r := &agentv1.ActionRecord{Id: id, Kind: "run", State: state, CreatedAt: timestamppb.Now()}
	if state == agentv1.ActionState_ACTION_STATE_DONE {
		r.FinishedAt = r.CreatedAt
		r.Observation = &agentv1.Observation{ActionId: id, Payload: []byte(`{"x":1}`)}
	}
	return r
}

func TestRecordsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := mustOpen(t, config(path))
	done := rec("a", agentv1.ActionState_ACTION_STATE_DONE)
	out := &agentv1.Output{Channel: agentv1.Channel_CHANNEL_STDERR, Data: []byte{0, 255}}
	for _, err := range []error{j.Put(rec("a", agentv1.ActionState_ACTION_STATE_RUNNING)), j.Put(done, out),
		j.Put(rec("b", agentv1.ActionState_ACTION_STATE_QUEUED))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		got, outs, err := j.Get("a")
		if err != nil || !proto.Equal(got, done) || len(outs) != 1 || !proto.Equal(outs[0], out) {
			t.Errorf("%v %v %v", got, outs, err)
		}
		if b := j.Brief("a"); b.GetObservation() == nil || b.Observation.Payload != nil {
			t.Errorf("brief %v", b)
		}
		if l := j.List(10, nil); len(l) != 2 || l[0].Id != "b" {
			t.Errorf("list %v", l)
		}
		_ = j.Close()
		j = mustOpen(t, config(path))
	}
}

func TestATornEndIsCutAndDamageRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := mustOpen(t, config(path))
	for i := range 3 {
		if err := j.Put(rec(fmt.Sprint("r", i), agentv1.ActionState_ACTION_STATE_DONE)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := len(whole) - int(j.byID["r2"].Value.(*entry).length)
	for cut := last + 1; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		torn := mustOpen(t, config(path))
		if torn.Brief("r1") == nil || torn.Brief("r2") != nil {
			t.Fatalf("cut at %d: %v", cut, torn.List(9, nil))
		}
	}
	whole[last-1] ^= 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config(path)); !rterr.Is(err, rterr.Integrity) {
		t.Errorf("damage: %v", err)
	}
}

func TestBounds(t *testing.T) {
	var dropped []string
	now := time.Now()
	cfg := config(filepath.Join(t.TempDir(), "j"))
	cfg.MaxRecords, cfg.Dropped, cfg.Now = 3, func(id string) { dropped = append(dropped, id) }, func() time.Time { return now }
	j := mustOpen(t, cfg)
	put := func(id string, state agentv1.ActionState) error { return j.Put(rec(id, state)) }
	for _, err := range []error{put("a", agentv1.ActionState_ACTION_STATE_RUNNING), put("b", agentv1.ActionState_ACTION_STATE_DONE),
		put("c", agentv1.ActionState_ACTION_STATE_RUNNING), put("d", agentv1.ActionState_ACTION_STATE_RUNNING)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(dropped) != "[b]" {
		t.Errorf("dropped %v", dropped)
	}
	if err := put("e", agentv1.ActionState_ACTION_STATE_QUEUED); !rterr.Is(err, rterr.LimitExceeded) || j.Brief("e") != nil {
		t.Errorf("over the bound: %v", err)
	}
	if err := put("a", agentv1.ActionState_ACTION_STATE_DONE); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	if err := put("f", agentv1.ActionState_ACTION_STATE_DONE); err != nil || j.Brief("a") != nil {
		t.Errorf("too old: %v", err)
	}
}

func FuzzJournal(f *testing.F) {
	frame, _ := recordFrame(rec("a", agentv1.ActionState_ACTION_STATE_DONE), []*agentv1.Output{{Data: []byte("x")}})
	good := append(SchemaFrame(Schema), frame...)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append(bytes.Clone(good), make([]byte, 100)...))
	f.Add(SchemaFrame(Schema + 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(config(path))
		if err != nil {
			return
		}
		defer j.Close()
		if err := j.Put(rec("new", agentv1.ActionState_ACTION_STATE_DONE)); err != nil {
			t.Fatal(err)
		}
		for _, r := range j.List(1000, nil) {
			if _, _, err := j.Get(r.Id); err != nil {
				t.Errorf("%q: %v", r.Id, err)
			}
		}
	})
}
