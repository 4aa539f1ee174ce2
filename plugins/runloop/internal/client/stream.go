package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Events is an open event stream. Not for concurrent use, but for Close.
type Events[T any] struct {
	operation string
	ctx       context.Context //nolint:containedctx // the request's own: it tells why the reading ended
	body      io.ReadCloser
	lines     *bufio.Reader
}

// Next blocks for the next event. io.EOF: the API closed the stream.
func (e *Events[T]) Next() (T, error) {
	var v T
	kind, data, err := readEvent(e.lines)
	switch {
	case errors.Is(err, io.EOF):
		return v, io.EOF
	case err != nil:
		return v, broken(err).toError(e.ctx, e.operation, 1)
	case kind == "error":
		return v, saidError(data).toError(e.ctx, e.operation, 1)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, rterr.New(rterr.Provider, e.operation, "an event cannot be read: %v", err)
	}
	return v, nil
}

// Close ends the stream.
func (e *Events[T]) Close() error { return e.body.Close() }

// readEvent reads one event: its kind and its data. Comments are skipped.
func readEvent(r *bufio.Reader) (kind string, data []byte, err error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return "", nil, err
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data != nil:
			return kind, bytes.TrimSuffix(data, []byte("\n")), nil
		case line == "":
			kind = ""
		case field == "event":
			kind = value
		case field == "data":
			if len(data)+len(value) > maxLine {
				return "", nil, errors.New("an event is too long")
			}
			data = append(append(data, value...), '\n')
		}
	}
}

// readLine reads a line without its end. A last line without an end is no line: the stream was cut.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case len(line) > maxLine:
			return "", errors.New("a line is too long")
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return "", io.ErrUnexpectedEOF
		default:
			return "", err
		}
	}
}

// saidError is an error within a stream.
func saidError(data []byte) *failure {
	var said struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return &failure{status: http.StatusBadGateway, message: clip(string(data)), sent: true}
	}
	status, err := strconv.Atoi(said.Code)
	if err != nil || status < 100 || status > 599 {
		status = http.StatusBadGateway
	}
	return &failure{status: status, message: clip(said.Message), sent: true}
}

func open[T any](ctx context.Context, c *Client, operation string, do func(context.Context, api.RequestEditorFn) (*http.Response, error)) (*Events[T], error) {
	resp, err := c.send(ctx, operation, &call{kind: stream}, func(ctx context.Context) (*http.Response, error) {
		return do(ctx, func(_ context.Context, req *http.Request) error {
			req.Header.Set("Accept", "text/event-stream")
			req.Header.Set("Accept-Encoding", "identity") // Compression would hold events back.
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		_ = resp.Body.Close() // It is not what was asked for.
		return nil, rterr.New(rterr.Provider, operation, "the answer is %q and no event stream", kind)
	}
	return &Events[T]{operation: operation, ctx: ctx, body: resp.Body, lines: bufio.NewReaderSize(resp.Body, 64<<10)}, nil
}

// Evictions opens the account's stream of evictions: those that are pending at once, then each as it is decided. It ends with ctx.
func (c *Client) Evictions(ctx context.Context) (*Events[api.DevboxEvictionEventView], error) {
	return open[api.DevboxEvictionEventView](ctx, c, "watch evictions", func(ctx context.Context, edit api.RequestEditorFn) (*http.Response, error) {
		return c.api.WatchDevboxEvictions(ctx, edit)
	})
}

// TailLogs opens the log of a devbox as it is written.
func (c *Client) TailLogs(ctx context.Context, id string) (*Events[api.DevboxLog], error) {
	return open[api.DevboxLog](ctx, c, "follow the logs of devbox "+id, func(ctx context.Context, edit api.RequestEditorFn) (*http.Response, error) {
		return c.api.TailDevboxLogs(ctx, id, &api.TailDevboxLogsParams{}, edit)
	})
}

// Stdout opens the standard output of a command from a byte on.
func (c *Client) Stdout(ctx context.Context, devbox, id string, offset uint64) (*Events[api.ExecutionUpdateChunk], error) {
	from := strconv.FormatUint(offset, 10)
	return open[api.ExecutionUpdateChunk](ctx, c, "read the output of command "+id,
		func(ctx context.Context, edit api.RequestEditorFn) (*http.Response, error) {
			return c.api.StreamStdoutUpdates(ctx, devbox, id, &api.StreamStdoutUpdatesParams{Offset: &from}, edit)
		})
}

// Stderr is Stdout for the standard error.
func (c *Client) Stderr(ctx context.Context, devbox, id string, offset uint64) (*Events[api.ExecutionUpdateChunk], error) {
	from := strconv.FormatUint(offset, 10)
	return open[api.ExecutionUpdateChunk](ctx, c, "read the errors of command "+id,
		func(ctx context.Context, edit api.RequestEditorFn) (*http.Response, error) {
			return c.api.StreamStderrUpdates(ctx, devbox, id, &api.StreamStderrUpdatesParams{Offset: &from}, edit)
		})
}
