package v0

import (
	"context"
	"errors"
	"io"
	"net/http"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0/repeat"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// execute answers /execute_action.
func (h *Handler) execute(w http.ResponseWriter, r *http.Request) {
	digest := repeat.Digest()
	a, err := DecodeAction(io.TeeReader(r.Body, digest))
	if err != nil {
		h.reply(w, r, FailureOf(err).Reply())
		return
	}
	h.stats.touch()
	conn := repeat.ConnOf(r.Context())
	if conn == nil {
		a.Id = action.NewID()
		obs, err := h.runInTurn(r.Context(), a)
		h.reply(w, r, Answer(a, obs, err))
		return
	}
	key := repeat.Key{Body: repeat.BodyOf(digest)}
	x, err := h.asked.Begin(r.Context(), key, conn, action.NewID)
	if err != nil { // the client has gone before anything began
		h.reply(w, r, FailureOf(err).Reply())
		return
	}
	h.exchange(w, r, a, x)
}

// exchange runs the action under the id of its exchange, which is that of an earlier request if this one repeats it: then it is
// attached to, or answered from its record. Whether the answer arrives decides what the same request means next time.
func (h *Handler) exchange(w http.ResponseWriter, r *http.Request, a *agentv1.Action, x *repeat.Exchange) {
	a.Id = x.Action
	if x.Repeats {
		h.log.Info("a request is repeated", "action", a.GetId())
	}
	obs, err := h.runInTurn(r.Context(), a)
	x.Answering()
	writeErr := Answer(a, obs, err).Write(w)
	x.Written(errors.Join(writeErr, http.NewResponseController(w).Flush()))
	if err != nil && rterr.From(err).Ran == rterr.RanNo {
		x.Forget()
	}
}

// runInTurn waits until the actions before it are over, and runs it to its end: from then on it does not matter whether the client
// is still there. One that has gone while it waited is not run: its retry is.
func (h *Handler) runInTurn(client context.Context, a *agentv1.Action) (*agentv1.Observation, error) {
	ctx, done, err := h.outlive(client)
	if err != nil {
		return nil, err
	}
	defer done()
	wait, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(client, stop)()
	if err := h.turns.take(wait); err != nil {
		return nil, rterr.Wrap(rterr.Internal, "wait for a turn", err)
	}
	defer h.turns.give()
	return observe(ctx, h.cfg.Executor, a)
}

// outlive returns a context that ends with the handler, not with the client.
func (h *Handler) outlive(client context.Context) (ctx context.Context, done func(), err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(client))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		cancel()
		return nil, nil, rterr.New(rterr.Unavailable, "execute", "the sandbox is stopping").WithRan(rterr.RanNo)
	}
	h.running[&cancel] = struct{}{}
	return ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.running, &cancel)
		cancel()
	}, nil
}

// observe runs an action and returns its observation; the output is in it.
func observe(ctx context.Context, by Executor, a *agentv1.Action) (*agentv1.Observation, error) {
	var obs *agentv1.Observation
	req := &agentv1.ExecuteRequest{Action: a, Output: agentv1.OutputMode_OUTPUT_MODE_NONE}
	err := by.Execute(ctx, req, func(ev *agentv1.ActionEvent) error {
		if o := ev.GetObservation(); o != nil {
			obs = o
		}
		return nil
	})
	if obs != nil {
		return obs, nil
	}
	if err == nil {
		err = rterr.New(rterr.Internal, "execute "+a.GetKind(), "it ended without an observation").WithRan(rterr.RanUnknown)
	}
	return nil, err
}
