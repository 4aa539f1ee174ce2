// Package ipython is the kind of action run_ipython: cells of Python in the sandbox's kernel, told as OpenHands' agents know it.
//
// The agent's boot imports it.
package ipython

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/agent/kernel"
)

const (
	// waitKill: between an interrupt of level KILL and the kill of the kernel, if the cell has not ended.
	waitKill = time.Second
	// waitClose: for the end of the kernel, as the engine closes.
	waitClose = 10 * time.Second
)

// What is said beside a cell's own words. OpenHands has none of it: its kernel gateway starts kernels anew without a word.
const (
	lostState = "[The kernel ended after an earlier cell and was started again: variables, imports and definitions are gone.]\n"
	stateGone = " Its variables, imports and definitions are gone; the next cell gets a new kernel.]"
	leftCell  = "\n[The cell takes no notice of the interrupt and may go on. The next cell waits a while for it, and then its kernel is killed.]"
	notBegun  = "The cell was interrupted before it began."
)

// Kind executes run_ipython actions. It is an engine.Kind, and an io.Closer.
type Kind struct{ kernel *kernel.Kernel }

// New returns the kind that runs its cells in k, which it closes.
func New(k *kernel.Kernel) *Kind { return &Kind{kernel: k} }

// Close ends the kernel.
func (k *Kind) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), waitClose)
	defer cancel()
	return k.kernel.Close(ctx)
}

// Prepare decodes a payload.
func (k *Kind) Prepare(payload []byte) (engine.Task, error) {
	p, err := action.DecodeRunIPython(payload)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, call *engine.Call) ([]byte, error) { return k.run(ctx, call, p) }, nil
}

func (k *Kind) run(ctx context.Context, call *engine.Call, p *action.RunIPython) ([]byte, error) {
	dir := call.Cwd()
	ended := make(chan struct{})
	defer close(ended)
	cell := kernel.Cell{Code: p.Code, Init: p.KernelInitCode, Dir: dir, Kill: killed(call.Interrupts, ended)}
	res, err := k.kernel.Execute(ctx, cell, call.Output)
	if err != nil {
		return nil, err
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, engine.ErrClosing) {
		return nil, cause
	}
	if res.End == kernel.Completed {
		cause = nil // It has come to its end by itself.
	}
	if failure := failureOf(res, cause); failure != "" {
		return action.ErrorObservation(failure), cause
	}
	content := trimRight(contentOf(res, cause, call.Timeout))
	if p.IncludeExtra {
		content += "\n[Jupyter current working directory: " + dir + "]\n[Jupyter Python interpreter: " + k.kernel.Python() + "]"
	}
	return action.RunIPythonObservation(p.Code, content, res.Images), cause
}

// failureOf is what to say of a cell that has no proper end, empty for all others.
func failureOf(res kernel.Result, cause error) string {
	switch {
	case res.End == kernel.Died:
		text := res.Text
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + "[The kernel died while the cell ran: " + res.Death + "." + stateGone
	case res.End == kernel.NotBegun && !errors.Is(cause, engine.ErrTimedOut):
		return notBegun
	}
	return ""
}

// contentOf is the text of a cell before anything is added to it.
func contentOf(res kernel.Result, cause error, timeout time.Duration) string {
	text := res.Text
	switch {
	case errors.Is(cause, engine.ErrTimedOut):
		text = "[Execution timed out (" + seconds(timeout) + " seconds).]"
	case res.End == kernel.Left:
		text += leftCell
	}
	if res.Lost {
		text = lostState + text
	}
	return text
}

// seconds are a timeout as Python prints it: a whole number as clients send it, without a fraction.
func seconds(d time.Duration) string {
	s := d.Seconds()
	if s == math.Trunc(s) {
		return strconv.FormatInt(int64(s), 10)
	}
	return strconv.FormatFloat(s, 'g', -1, 64)
}

// trimRight drops white space at the end as Python's str.rstrip does.
func trimRight(s string) string {
	return strings.TrimRightFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f })
}

// killed returns what is closed a moment after an interrupt of level KILL: the cell has been interrupted by then.
func killed(levels <-chan agentv1.InterruptLevel, ended <-chan struct{}) <-chan struct{} {
	kill := make(chan struct{})
	go func() {
		for {
			select {
			case <-ended:
				return
			case level := <-levels:
				if level < agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL {
					continue
				}
			}
			select {
			case <-ended:
			case <-time.After(waitKill):
				close(kill)
			}
			return
		}
	}()
	return kill
}
