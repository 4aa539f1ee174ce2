package client

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Execution is a command that has ended.
type Execution struct {
	Exit           int
	Stdout, Stderr string
}

// Run runs a small command in a devbox and returns once it has ended; its output is cut to the last lines. The command must be
// harmless to repeat: where it cannot be known whether the API took it, it is looked for by its id, and sent again if it is not
// there.
func (c *Client) Run(ctx context.Context, devbox, command string) (Execution, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Execution{}, rterr.Wrap(rterr.Internal, "run in devbox "+devbox, err)
	}
	view, err := c.Execute(ctx, devbox, id, command, executionHold)
	for err == nil && (view == nil || view.Status != api.ExecutionStatusCompleted) {
		view, err = c.WaitExecution(ctx, devbox, id.String())
	}
	if err != nil {
		return Execution{}, err
	}
	return endOf(view), nil
}

func endOf(view *api.DevboxAsyncExecutionDetailView) Execution {
	e := Execution{Exit: -1}
	if view.ExitStatus != nil {
		e.Exit = int(*view.ExitStatus)
	}
	if view.Stdout != nil {
		e.Stdout = *view.Stdout
	}
	if view.Stderr != nil {
		e.Stderr = *view.Stderr
	}
	return e
}

// Execute starts a command under an id (UUIDv7) and waits for it for at most hold. nil without an error: it has been taken, and how
// far it is is not known.
func (c *Client) Execute(
	ctx context.Context, devbox string, id uuid.UUID, command string, hold time.Duration,
) (*api.DevboxAsyncExecutionDetailView, error) {
	operation, requestID, seconds := "run in devbox "+devbox, NewRequestID(), int32(hold.Seconds()) //nolint:gosec // a few seconds
	req := api.DevboxExecuteParameters{Command: command, CommandID: id, OptimisticTimeout: &seconds}
	for tries := 0; ; tries++ {
		view, err := ask[api.DevboxAsyncExecutionDetailView](ctx, c, operation, &call{kind: once, limit: hold + holdSlack},
			func(ctx context.Context) (*http.Response, error) {
				return c.api.Execute(ctx, devbox, &api.ExecuteParams{XRequestID: &requestID}, req)
			})
		if err == nil {
			return view, nil
		}
		if !Uncertain(err) || tries >= c.cfg.Retries || ctx.Err() != nil {
			return nil, err
		}
		view, lookErr := c.Execution(ctx, devbox, id.String())
		if lookErr == nil {
			return view, nil
		}
		if !Missing(lookErr) {
			return nil, lookErr
		}
		if err := sleep(ctx, c.doer.backoff(tries)); err != nil {
			return nil, rterr.Wrap(rterr.Cancelled, operation, err)
		}
	}
}

// Execution returns a command by its id.
func (c *Client) Execution(ctx context.Context, devbox, id string) (*api.DevboxAsyncExecutionDetailView, error) {
	return ask[api.DevboxAsyncExecutionDetailView](ctx, c, "look at command "+id, &call{kind: again},
		func(ctx context.Context) (*http.Response, error) {
			return c.api.RetrieveExecution(ctx, devbox, id, &api.RetrieveExecutionParams{})
		})
}

// WaitExecution waits for the end of a command. nil without an error: it goes on.
func (c *Client) WaitExecution(ctx context.Context, devbox, id string) (*api.DevboxAsyncExecutionDetailView, error) {
	seconds := float32(executionHold.Seconds())
	for tries := 0; ; tries++ {
		view, err := ask[api.DevboxAsyncExecutionDetailView](ctx, c, "wait for command "+id,
			&call{kind: poll, limit: executionHold + holdSlack}, func(ctx context.Context) (*http.Response, error) {
				return c.api.WaitForCommand(ctx, devbox, id, &api.WaitForCommandParams{}, api.DevboxWaitForCommandRequest{
					Statuses: []api.ExecutionStatus{api.ExecutionStatusCompleted}, TimeoutSeconds: &seconds})
			})
		if Status(err) == http.StatusRequestTimeout {
			return nil, nil
		}
		if err == nil || !Passing(err) || tries >= c.cfg.Retries {
			return view, err
		}
		if err := sleep(ctx, max(rterr.From(err).RetryAfter, c.doer.backoff(tries))); err != nil {
			return nil, rterr.Wrap(rterr.Cancelled, "wait for command "+id, err)
		}
	}
}

// Kill ends a command and all of its process group. One that has ended is a success.
func (c *Client) Kill(ctx context.Context, devbox, id string) error {
	group := true
	return c.tell(ctx, "kill command "+id, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.KillExecution(ctx, devbox, id, &api.KillExecutionParams{}, api.DevboxKillExecutionRequest{KillProcessGroup: &group})
	})
}

// WriteFile writes a small text into a file of a devbox, relative to the home folder.
func (c *Client) WriteFile(ctx context.Context, devbox, path, text string) error {
	return c.tell(ctx, "write a file in devbox "+devbox, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.WriteFileContents(ctx, devbox, &api.WriteFileContentsParams{},
			api.DevboxWriteFileParameters{FilePath: path, Contents: text})
	})
}

// Upload writes bytes into a file of a devbox.
func (c *Client) Upload(ctx context.Context, devbox, path string, content []byte) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	err := form.WriteField("path", path)
	if err == nil {
		var part io.Writer
		if part, err = form.CreateFormFile("file", "file"); err == nil {
			_, err = part.Write(content)
		}
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		return rterr.Wrap(rterr.Internal, "upload to devbox "+devbox, err)
	}
	return c.tell(ctx, "upload to devbox "+devbox, &call{kind: bulk}, func(ctx context.Context) (*http.Response, error) {
		return c.api.UploadFileWithBody(ctx, devbox, &api.UploadFileParams{}, form.FormDataContentType(), bytes.NewReader(body.Bytes()))
	})
}

// Passing reports whether the same call may well succeed in a moment.
func Passing(err error) bool {
	f, ok := asFailure(err)
	return ok && f.passing(false)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
