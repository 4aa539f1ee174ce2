package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Cell is a piece of code to run.
type Cell struct {
	Code string
	// Init is run before it, once in each kernel; what it displays comes before the cell's own output only if it fails.
	Init string
	// Dir is where the code shall run: the kernel goes there if this is not what the last cell had. The code may go elsewhere, and
	// stays there until Dir changes. Empty: where it is.
	Dir string
	// Kill kills the kernel once it is closed, if the cell has not ended by then. nil: never.
	Kill <-chan struct{}
}

// End is how a cell has ended.
type End int

// The ends of a cell.
const (
	// Completed: it ran to its end, by an exception or not.
	Completed End = iota
	// Stopped: the context ended, and the cell was interrupted; what it displayed since is in the result, the exception among it.
	Stopped
	// Left: as Stopped, but it took no notice of the interrupt in time. It may go on; the next cell waits for it a while, and has its
	// kernel killed then.
	Left
	// NotBegun: the context ended before it ran.
	NotBegun
	// Died: the kernel ended under it.
	Died
)

// Result is what a cell did.
type Result struct {
	// Text is what it displayed, without colours; a line that says so if it displayed nothing; cut in the middle to 512 KiB. It is
	// empty for NotBegun.
	Text string
	// Images are data URLs of PNGs; nil if there are none. 4 MiB of them are kept.
	Images []string
	End    End
	// Lost: an earlier kernel is gone, and the state of the cells that ran in it.
	Lost bool
	// Death says how the kernel has ended, for Died: "signal: killed", "exit status 1".
	Death string
}

// Execute runs a cell and blocks until it has ended, or ctx has and the cell was interrupted (Left: a few seconds later at most). Its
// output goes to out as it comes, each piece complete in UTF-8. The error is only about a kernel that cannot be started: Unsupported
// where there is no Python with ipykernel, Provider with the evidence, SandboxPaused, LimitExceeded, Unavailable after Close. ran is
// no then.
func (k *Kernel) Execute(ctx context.Context, cell Cell, out io.Writer) (Result, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return Result{End: NotBegun}, nil
	}
	for try := 0; ; try++ {
		in, err := k.acquire(ctx, cell.Dir)
		if errors.Is(err, errNotBegun) {
			return Result{End: NotBegun}, nil
		}
		if err != nil {
			return Result{}, rterr.From(rterr.Wrap(rterr.Provider, "run cell", err)).WithRan(rterr.RanNo)
		}
		res, err := k.run(ctx, in, cell, out)
		if err == nil {
			return k.tell(in, res), nil
		}
		in.end() // The cell has not reached it.
		if try == maxTries {
			return Result{}, rterr.From(rterr.Wrap(rterr.Provider, "run cell", errors.Join(in.death(), err))).WithRan(rterr.RanNo)
		}
	}
}

// maxTries is how many times a kernel is started that dies before it has the cell.
const maxTries = 2

// tell completes a result with what became of the kernel.
func (k *Kernel) tell(in *instance, res Result) Result {
	if res.End == NotBegun {
		return res
	}
	res.Lost = k.last != nil && k.last != in
	k.last = in
	if res.End == Died {
		k.last = nil
	}
	return res
}

// errNotBegun: the context of a cell has ended before it had a kernel.
var errNotBegun = errors.New("the cell has not begun")

// acquire returns a kernel that is free; errNotBegun if ctx ends before.
func (k *Kernel) acquire(ctx context.Context, dir string) (*instance, error) {
	for {
		s := k.ensure(dir)
		select {
		case <-s.done:
		case <-ctx.Done():
			return nil, errNotBegun
		}
		if s.err != nil {
			return nil, s.err
		}
		if k.free(ctx, s.in) {
			return s.in, nil
		}
		if ctx.Err() != nil {
			return nil, errNotBegun
		}
	}
}

// free waits for what an earlier cell has left running, until ctx ends. It is interrupted once more, and then its kernel is killed.
func (k *Kernel) free(ctx context.Context, in *instance) bool {
	if in.left == nil {
		return true
	}
	select {
	case <-in.left.done:
		in.left = nil
		return true
	default:
	}
	if err := in.interrupt(); err != nil {
		k.cfg.Logger.Debug("cannot interrupt the cell that was left", "error", err) // The kernel is dead, or soon is.
	}
	patience := time.NewTimer(waitLeft)
	defer patience.Stop()
	select {
	case <-in.left.done:
		in.left = nil
		return true
	case <-in.drained:
	case <-patience.C:
		k.cfg.Logger.Warn("a cell takes no notice of interrupts; its kernel is killed")
		in.end()
	case <-ctx.Done():
	}
	return false
}

// run runs a cell in a kernel that is free. An error means that the cell did not reach it.
func (k *Kernel) run(ctx context.Context, in *instance, cell Cell, out io.Writer) (Result, error) {
	to := &collector{out: out}
	if err := k.enter(ctx, in, cell.Dir); err != nil {
		k.cfg.Logger.Debug("the kernel cannot go where the shell is", "dir", cell.Dir, "error", err)
	}
	if cell.Init != "" && cell.Init != in.initialised {
		in.initialised = cell.Init
		if err := in.hidden(ctx, cell.Init); err != nil && in.alive() {
			to.write(err.Error() + "\n")
		}
	}
	if over(ctx) {
		return Result{End: NotBegun}, nil
	}
	r, err := in.execute(cell.Code, false, to)
	if err != nil {
		return Result{}, err
	}
	end := k.await(ctx, in, r, cell.Kill)
	r.detach() // Nothing is written any more, so that what is there can be read.
	return to.finish(Result{End: end}, in), nil
}

func over(ctx context.Context) bool { return ctx.Err() != nil }

// finish puts what was displayed into a result.
func (c *collector) finish(res Result, in *instance) Result {
	res.Text, res.Images = c.result()
	if res.End != Died {
		return res
	}
	res.Death = in.child.state()
	if res.Text == noOutput {
		res.Text = ""
	}
	return res
}

// await waits for the end of the cell.
func (k *Kernel) await(ctx context.Context, in *instance, r *request, kill <-chan struct{}) End {
	end, stop := Completed, ctx.Done()
	var patience <-chan time.Time
	for {
		select {
		case <-r.done:
			return end
		case <-in.drained:
			return Died
		case <-kill:
			in.child.killAll(k.cfg)
			kill, patience = nil, nil // It dies now.
		case <-stop:
			k.interrupt(in, r)
			end, stop, patience = Stopped, nil, time.After(waitInterrupted)
		case <-patience:
			in.left = r
			return Left
		}
	}
}

// interrupt interrupts the cell once it runs: before, the kernel takes no notice.
func (k *Kernel) interrupt(in *instance, r *request) {
	select {
	case <-r.busy:
	case <-in.drained:
		return
	case <-time.After(waitInterrupted):
	}
	if err := in.interrupt(); err != nil {
		k.cfg.Logger.Debug("cannot interrupt the cell", "error", err) // The kernel is dead, or soon is.
	}
}

// enter brings the kernel to a folder, unless that is where the last cell had it.
func (k *Kernel) enter(ctx context.Context, in *instance, dir string) error {
	if dir == "" || dir == in.dir {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitHidden)
	defer cancel()
	if err := in.hidden(ctx, "__import__('os').chdir("+pythonBytes(dir)+")"); err != nil {
		return err
	}
	in.dir = dir
	return nil
}

// folder is dir if it is there, else the other one.
func folder(dir, other string) string {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return dir
	}
	return other
}

// pythonBytes is a literal for the bytes of a string: a folder's name need not be UTF-8.
func pythonBytes(s string) string {
	var b strings.Builder
	b.WriteString("b'")
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "\\x%02x", c)
	}
	return b.String() + "'"
}
