package cli

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/daemon"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/terminal"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/transfer"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// barEvery is how often the progress bar is drawn at most.
const barEvery = 100 * time.Millisecond

func (a *app) cpCommand() *cobra.Command {
	var reconnect time.Duration
	c := &cobra.Command{
		Use: "cp SRC DST", Short: "Copy files and folders into and out of a runtime", Args: exactArgs(2),
		Long: `Copy a file or a folder; one side is RUNTIME:PATH, RUNTIME being an id or a session id and PATH absolute or relative to the
workspace. Into a folder that exists the copy goes under its own name; with SRC/. only what is in SRC goes. A file appears
under its name only once it is whole and its hash was checked; after a cut connection the copy goes on where it was.
A local path with a colon is written ./like:this.`,
		Example: `  openhands-rt cp model.bin demo:/workspace/
  openhands-rt cp ./src/. demo:src
  openhands-rt cp demo:/workspace/report.html .
  openhands-rt cp demo:results ./results`,
		RunE: func(c *cobra.Command, args []string) error { return a.cp(c.Context(), args[0], args[1], reconnect) },
	}
	c.Flags().DurationVar(&reconnect, "reconnect", 30*time.Second, "how long to try to go on when the connection to the daemon is lost")
	return c
}

// splitSide reads RUNTIME:PATH. A local path has an empty runtime.
func splitSide(arg string) (runtime, path string) {
	runtime, path, remote := strings.Cut(arg, ":")
	if !remote || runtime == "" || strings.ContainsRune(runtime, '/') || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	if path == "" {
		path = "."
	}
	return runtime, path
}

func (a *app) cp(ctx context.Context, src, dst string, reconnect time.Duration) error {
	fromRuntime, from := splitSide(src)
	toRuntime, to := splitSide(dst)
	if (fromRuntime == "") == (toRuntime == "") {
		return usagef("one of SRC and DST must be RUNTIME:PATH, and only one")
	}
	rt, err := a.get(ctx, fromRuntime+toRuntime)
	if err != nil {
		return err
	}
	cp := &copying{a: a, rt: rt.GetId()}
	cp.client = &transfer.Client{
		Do: a.d.Do, URL: func(q url.Values) string { return daemon.FilesURL(rt.GetId(), q) },
		Transient: daemon.Transient, Reconnect: reconnect, Progress: cp.moved, OnRetry: cp.retrying,
	}
	op := "copy " + src + " to " + dst
	defer cp.barDone()
	if fromRuntime != "" {
		err = cp.down(ctx, from, to)
	} else {
		err = cp.up(ctx, from, to)
	}
	return explainFile(a.d, op, err)
}

// explainFile keeps errors of this machine's files apart from the daemon's.
func explainFile(d *daemon.Daemon, op string, err error) error {
	if daemon.LocalFile(err) {
		return rterr.New(reasonOfFile(err), op, "%v", err).WithRemedy("check the path and its permissions").WithCause(err)
	}
	return d.Explain(op, err)
}

func reasonOfFile(err error) rterr.Reason {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return rterr.NotFound
	case errors.Is(err, fs.ErrPermission):
		return rterr.PermissionDenied
	case errors.Is(err, fs.ErrExist):
		return rterr.AlreadyExists
	default:
		return rterr.Internal
	}
}

// copying is one copy.
type copying struct {
	a      *app
	rt     string
	client *transfer.Client
	bar    *progressbar.ProgressBar
	told   bool
}

func (c *copying) up(ctx context.Context, from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	there, err := c.stat(ctx, to)
	if err != nil {
		return err
	}
	if there.GetDir() || (strings.HasSuffix(to, "/") && !info.IsDir()) {
		to = under(to, from)
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return rterr.Invalid("", "SRC", "%s is neither a file nor a folder", from)
		}
		c.barStart(info.Size(), path.Base(to))
		return c.client.UploadFile(ctx, from, to)
	}
	if there != nil && !there.GetDir() {
		return rterr.New(rterr.AlreadyExists, "", "%s is a file, a folder cannot take its place", to)
	}
	if _, err := c.a.d.Files.MakeDir(ctx, connect.NewRequest(&runtimev1.MakeDirRequest{RuntimeId: c.rt, Path: to})); err != nil {
		return err
	}
	c.barStart(treeSize(from), path.Base(to))
	skipped, err := c.client.UploadTree(ctx, from, to)
	if skipped > 0 {
		c.a.note("left out %d entries that are neither files, folders nor links", skipped)
	}
	return err
}

func (c *copying) down(ctx context.Context, from, to string) error {
	info, err := c.stat(ctx, from)
	if err != nil {
		return err
	}
	if info == nil {
		return rterr.New(rterr.NotFound, "", "there is no %s in runtime %s", from, c.rt).
			WithRemedy("paths are absolute, or relative to the runtime's workspace")
	}
	there, statErr := os.Stat(to)
	if statErr == nil && there.IsDir() {
		to = under(to, from)
	}
	if !info.GetDir() {
		c.barStart(int64(info.GetSize()), path.Base(from))
		return c.client.DownloadFile(ctx, from, to, fs.FileMode(info.GetMode()).Perm())
	}
	c.barStart(-1, path.Base(from))
	skipped, err := c.client.DownloadTree(ctx, from, to)
	if skipped != "" {
		c.a.note("the runtime left out %s entries", skipped)
	}
	return err
}

// under is the name of source within the folder dir; "SRC/." means the folder itself.
func under(dir, source string) string {
	if source == "." || strings.HasSuffix(source, "/.") {
		return dir
	}
	return strings.TrimSuffix(dir, "/") + "/" + path.Base(filepath.ToSlash(source))
}

// stat returns what is at a path of the runtime, nil if nothing is.
func (c *copying) stat(ctx context.Context, name string) (*agentv1.FileInfo, error) {
	resp, err := c.a.d.Files.StatFile(ctx, connect.NewRequest(&runtimev1.StatFileRequest{RuntimeId: c.rt, Path: name}))
	if err == nil {
		return resp.Msg.GetInfo(), nil
	}
	if err = c.a.d.Explain("look at "+name, err); rterr.Is(err, rterr.NotFound) {
		return nil, nil
	}
	return nil, err
}

// treeSize is the sum of the files' sizes, for the bar alone: what cannot be read is told by the copy itself.
func treeSize(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // see above
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

func (c *copying) barStart(size int64, name string) {
	if !terminal.Is(c.a.env.Err) {
		return
	}
	c.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(c.a.env.Err), progressbar.OptionSetDescription(name),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(barEvery), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionUseANSICodes(true))
}

func (c *copying) moved(n int64) {
	if c.bar != nil {
		_ = c.bar.Add64(n) // a bar that cannot be drawn is no reason to stop
	}
}

func (c *copying) barDone() {
	if c.bar != nil {
		_ = c.bar.Finish() // as above
	}
}

func (c *copying) retrying(error) {
	if !c.told {
		c.told = true
		c.a.note("the connection was lost; going on where it was")
	}
}
