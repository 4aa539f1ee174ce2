package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/daemon"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

// pageSize of lists that come in pages.
const pageSize = 200

func (a *app) runtimesCommand() *cobra.Command {
	c := parent("runtimes", "Start, see and end runtimes", `  openhands-rt runtimes start --sid demo --workspace .
  openhands-rt runtimes ls
  openhands-rt runtimes stop demo`,
		a.runtimesLs(), a.runtimesStart(), a.runtimesShow(), a.runtimesWatch(),
		a.runtimesChange("pause", "Freeze runtimes: everything in them stops and stays", a.pauseRuntime),
		a.runtimesChange("resume", "Let frozen runtimes go on", a.resumeRuntime), a.runtimesStop())
	c.Aliases = []string{"runtime", "rt"}
	return c
}

func (a *app) runtimesLs() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List your runtimes, newest first", Args: noArgs,
		Example: "  openhands-rt runtimes ls\n  openhands-rt runtimes ls --all -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := a.listRuntimes(c.Context(), all)
			if err != nil {
				return err
			}
			p := a.printer()
			return p.Message(&runtimev1.ListRuntimesResponse{Runtimes: list}, func() error { return runtimesTable(p, list) })
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "stopped ones too, as long as they are kept")
	return c
}

func (a *app) listRuntimes(ctx context.Context, all bool) ([]*runtimev1.Runtime, error) {
	d, err := a.dial()
	if err != nil {
		return nil, err
	}
	var list []*runtimev1.Runtime
	req := &runtimev1.ListRuntimesRequest{All: all, PageSize: pageSize}
	for {
		resp, err := d.Runtimes.ListRuntimes(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, d.Explain("list runtimes", err)
		}
		list = append(list, resp.Msg.GetRuntimes()...)
		next := resp.Msg.GetNextPageToken()
		if next == "" || next == req.GetPageToken() {
			return list, nil
		}
		req.PageToken = next
	}
}

func runtimesTable(p *render.Printer, list []*runtimev1.Runtime) error {
	rows := make([][]string, 0, len(list))
	for _, rt := range list {
		rows = append(rows, []string{
			rt.GetId(), rt.GetSid(), rt.GetBackend(), runtimeStatus(rt), phase(rt), p.Age(rt.GetCreatedAt()), rt.GetMessage(),
		})
	}
	return p.Table([]string{"ID", "SID", "BACKEND", "STATUS", "PHASE", "AGE", "MESSAGE"}, rows)
}

func phase(rt *runtimev1.Runtime) string { return render.Enum(rt.GetPhase().String(), "PHASE_") }

type startFlags struct {
	sandboxFlags
	sid         string
	env, labels []string
	attach      bool
	image, user string
}

func (a *app) runtimesStart() *cobra.Command {
	f := &startFlags{}
	c := &cobra.Command{
		Use: "start", Short: "Make a runtime, wait until it is ready, print its id", Args: noArgs,
		Example: `  R=$(openhands-rt runtimes start)
  openhands-rt runtimes start --sid demo --workspace . --env CI=1 --limit-memory 2G --label team=a
  openhands-rt runtimes start --sid demo --attach      # the one of that session if there is one`,
		RunE: func(c *cobra.Command, _ []string) error { return a.start(c.Context(), f) },
	}
	fs := c.Flags()
	f.bind(fs)
	fs.StringVar(&f.sid, "sid", "", "session id, to find the runtime again (default: minted)")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "environment of everything in it, as K=V")
	fs.StringArrayVar(&f.labels, "label", nil, "label, as K=V")
	fs.BoolVar(&f.attach, "attach", false, "with --sid: use the live runtime of that session if there is one")
	fs.StringVar(&f.image, "image", "", "image, snapshot or blueprint, in the provider's words")
	fs.StringVar(&f.user, "username", "", "user inside (default: the backend's)")
	return c
}

func (a *app) start(ctx context.Context, f *startFlags) error {
	if f.attach && f.sid == "" {
		return usagef("--attach goes with --sid")
	}
	spec, err := f.spec()
	if err != nil {
		return err
	}
	if spec.Env, err = keyValues("--env", f.env, nil); err != nil {
		return err
	}
	if spec.Labels, err = keyValues("--label", f.labels, nil); err != nil {
		return err
	}
	spec.Image, spec.Username = f.image, f.user
	if _, err := a.dial(); err != nil {
		return err
	}
	req := &runtimev1.CreateRuntimeRequest{Sid: f.sid, Backend: f.backend, Spec: spec, AttachToExisting: f.attach}
	if req.GetSid() == "" {
		req.Sid = newSid()
	}
	rt, err := a.create(ctx, req)
	if err != nil {
		if f.sid == "" { // nobody else can mean it
			a.stopSaying(ctx, rt, req.GetSid())
		}
		return err
	}
	p := a.printer()
	return p.Message(rt, func() error { return p.Text("%s", rt.GetId()) })
}

func (a *app) runtimesShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID|SID", Short: "Show everything about a runtime", Args: exactArgs(1),
		Long:    "Show everything about a runtime. Its session key is in -o json alone.",
		Example: "  openhands-rt runtimes show demo\n  openhands-rt runtimes show demo -o json | jq -r .url",
		RunE: func(c *cobra.Command, args []string) error {
			rt, err := a.get(c.Context(), args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return p.Message(rt, func() error { return p.Fields(runtimeFields(rt)...) })
		},
	}
}

func runtimeFields(rt *runtimev1.Runtime) [][2]string {
	fields := [][2]string{
		{"id", rt.GetId()}, {"sid", rt.GetSid()}, {"backend", rt.GetBackend()}, {"sandbox", rt.GetSandboxId()},
		{"generation", strconv.FormatUint(rt.GetGeneration(), 10)}, {"status", runtimeStatus(rt)}, {"phase", phase(rt)},
		{"message", rt.GetMessage()}, {"error", rt.GetError().GetMessage()}, {"remedy", rt.GetError().GetRemedy()},
		{"created", render.Time(rt.GetCreatedAt())}, {"updated", render.Time(rt.GetUpdatedAt())},
		{"lease until", render.Time(rt.GetLeaseUntil())}, {"url", rt.GetUrl()},
		{"workspace", rt.GetWorkspace()}, {"home", rt.GetHome()}, {"user", rt.GetUsername()},
		{"isolation", rt.GetCapabilities().GetIsolation()}, {"labels", pairs(rt.GetLabels())},
	}
	if rt.GetQueued() > 0 {
		fields = append(fields, [2]string{"queued", strconv.Itoa(int(rt.GetQueued()))})
	}
	return fields
}

func (a *app) runtimesWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch ID|SID", Short: "Print what happens to a runtime until it has stopped", Args: exactArgs(1),
		Example: "  openhands-rt runtimes watch demo\n  openhands-rt runtimes watch demo -o json",
		RunE: func(c *cobra.Command, args []string) error {
			rt, err := a.get(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.watch(c.Context(), rt)
		},
	}
}

func (a *app) watch(ctx context.Context, rt *runtimev1.Runtime) error {
	op := "watch runtime " + rt.GetId()
	stream, err := a.d.Runtimes.WatchRuntime(ctx, connect.NewRequest(&runtimev1.WatchRuntimeRequest{RuntimeId: rt.GetId()}))
	if err != nil {
		return a.d.Explain(op, err)
	}
	defer func() { _ = stream.Close() }() // what it would report, Err has reported
	p := a.printer()
	for stream.Receive() {
		if err := p.Line(stream.Msg(), func() error { return p.Text("%s", watchText(stream.Msg())) }); err != nil {
			return err
		}
	}
	return a.d.Explain(op, stream.Err())
}

func (a *app) runtimesStop() *cobra.Command {
	var keep, all bool
	c := &cobra.Command{
		Use: "stop (ID|SID... | --all)", Short: "End runtimes and everything in them",
		Example: "  openhands-rt runtimes stop demo other\n  openhands-rt runtimes stop --all",
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("name the runtimes to stop, or give --all")
			}
			stop := func(ctx context.Context, d *daemon.Daemon, id string) (*runtimev1.Runtime, error) {
				resp, err := d.Runtimes.StopRuntime(ctx, connect.NewRequest(&runtimev1.StopRuntimeRequest{RuntimeId: id, Keep: keep}))
				if err != nil {
					return nil, err
				}
				return resp.Msg.GetRuntime(), nil
			}
			if all {
				list, err := a.listRuntimes(c.Context(), false)
				if err != nil {
					return err
				}
				for _, rt := range list {
					args = append(args, rt.GetId())
				}
			}
			return a.change(c.Context(), "stop", args, stop)
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave the sandbox itself until its lease ends")
	c.Flags().BoolVar(&all, "all", false, "all of yours")
	return c
}

// changer is one call that changes a runtime.
type changer func(ctx context.Context, d *daemon.Daemon, id string) (*runtimev1.Runtime, error)

func (a *app) pauseRuntime(ctx context.Context, d *daemon.Daemon, id string) (*runtimev1.Runtime, error) {
	resp, err := d.Runtimes.PauseRuntime(ctx, connect.NewRequest(&runtimev1.PauseRuntimeRequest{RuntimeId: id}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetRuntime(), nil
}

func (a *app) resumeRuntime(ctx context.Context, d *daemon.Daemon, id string) (*runtimev1.Runtime, error) {
	resp, err := d.Runtimes.ResumeRuntime(ctx, connect.NewRequest(&runtimev1.ResumeRuntimeRequest{RuntimeId: id}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetRuntime(), nil
}

func (a *app) runtimesChange(verb, short string, call changer) *cobra.Command {
	return &cobra.Command{
		Use: verb + " ID|SID...", Short: short, Args: minArgs(1), Example: "  openhands-rt runtimes " + verb + " demo",
		RunE: func(c *cobra.Command, args []string) error { return a.change(c.Context(), verb, args, call) },
	}
}

// change calls on every runtime named, also after one has failed, and prints the id of each that succeeded.
func (a *app) change(ctx context.Context, verb string, refs []string, call changer) error {
	p := a.printer()
	var failed []error
	for _, ref := range refs {
		rt, err := a.changeOne(ctx, verb, ref, call)
		if err != nil {
			failed = append(failed, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if err := p.Line(rt, func() error { return p.Text("%s", rt.GetId()) }); err != nil {
			return err
		}
	}
	if len(failed) < 2 {
		return errors.Join(failed...)
	}
	for _, err := range failed[:len(failed)-1] {
		a.say(err)
	}
	return failed[len(failed)-1]
}

func (a *app) changeOne(ctx context.Context, verb, ref string, call changer) (*runtimev1.Runtime, error) {
	rt, err := a.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	changed, err := call(ctx, a.d, rt.GetId())
	if err != nil {
		return nil, a.d.Explain(verb+" runtime "+rt.GetId(), err)
	}
	if changed == nil {
		changed = rt
	}
	return changed, nil
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

// pairs prints a map as "k=v k=v", sorted.
func pairs(m map[string]string) string {
	var b strings.Builder
	for i, k := range sortedKeys(m) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(k + "=" + m[k])
	}
	return b.String()
}
