package openhands

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0/repeat"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// execute runs the action of a request, once for all repeats of the request, and answers with its observation. A client that goes
// away does not end the action.
func (d *Door) execute(w http.ResponseWriter, r *http.Request, v *runtimev1.Runtime) {
	if r.Method != http.MethodPost {
		_ = v0.MethodNotAllowed(http.MethodPost).Reply().Write(w)
		return
	}
	digest := repeat.Digest()
	a, err := v0.DecodeAction(io.TeeReader(r.Body, digest))
	if err == nil {
		err = d.ready(r.Context(), v)
	}
	if err != nil {
		fail(w, err)
		return
	}
	key := repeat.Key{Runtime: v.GetId(), Generation: v.GetGeneration(), Body: repeat.BodyOf(digest)}
	x, err := d.table.Begin(r.Context(), key, repeat.ConnOf(r.Context()), func() string {
		return repeat.IDOf(key.Body, strings.ToLower(rand.Text()))
	})
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone before anything began
	}
	if x.Repeats {
		d.opts.Metrics.Repeated()
		d.note(mark{runtime: v.GetId(), action: x.Action})
	}
	a.Id = x.Action
	d.answer(w, r, v, x, a)
}

// answer writes the answer of an exchange, and finds out whether it arrives.
func (d *Door) answer(w http.ResponseWriter, r *http.Request, v *runtimev1.Runtime, x *repeat.Exchange, a *agentv1.Action) {
	obs, err := d.run(r.Context(), v.GetId(), a)
	if err != nil && (r.Context().Err() != nil || rterr.Is(err, rterr.Unavailable)) {
		// The client is gone, or the daemon is going: whoever asks again gets the answer.
		x.Abandon()
		panic(http.ErrAbortHandler)
	}
	x.Answering()
	wrong := v0.Answer(a, obs, err).Write(w)
	arrived := x.Written(errors.Join(wrong, http.NewResponseController(w).Flush()))
	switch {
	case err != nil:
		x.Forget() // it never ran
	case arrived:
		d.note(mark{runtime: v.GetId(), action: a.GetId(), answered: true})
	}
}

// ready waits until the shell is as it should be, and knows what an earlier life of the host left unanswered.
func (d *Door) ready(ctx context.Context, v *runtimev1.Runtime) error {
	if err := d.prepare(ctx, v); err != nil {
		return err
	}
	return d.recall(ctx, v)
}

// seed is what an earlier life of the host left of a runtime's generation.
type seed struct {
	generation uint64
	mu         sync.Mutex
	done       bool
}

// recall fills the table, once, with the unanswered actions of a runtime that is older than this life of the host.
func (d *Door) recall(ctx context.Context, v *runtimev1.Runtime) error {
	if v.GetCreatedAt().AsTime().After(d.started) {
		return nil
	}
	d.mu.Lock()
	s := d.seeds[v.GetId()]
	if s == nil || s.generation != v.GetGeneration() {
		s = &seed{generation: v.GetGeneration()}
		d.seeds[v.GetId()] = s
	}
	d.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil
	}
	recorded, err := d.m.Recorded(ctx, v.GetId(), maxRecorded)
	if err != nil {
		return err
	}
	for _, id := range unanswered(recorded) {
		d.table.Seed(v.GetId(), v.GetGeneration(), id)
	}
	s.done = true
	return nil
}

// unanswered are the requests of this protocol that may be sent again, oldest first. The host may have died before it noted an
// answer: since a client has one request at a time, one that began after another's end says that the other's answer was taken.
func unanswered(newestFirst []runtime.RecordedAction) []string {
	var out []string
	var later time.Time // when the next one began
	for _, a := range newestFirst {
		if !repeat.Minted(a.ID) {
			continue
		}
		taken := !later.IsZero() && !a.FinishedAt.IsZero() && later.After(a.FinishedAt)
		tooOld := !a.FinishedAt.IsZero() && time.Since(a.FinishedAt) > repeat.KeepCut
		if !a.Answered && !taken && !tooOld {
			out = append(out, a.ID)
		}
		if later.IsZero() {
			later = a.CreatedAt
		}
	}
	slices.Reverse(out)
	return out
}
