package emulator

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// defaultLines is how many of the last lines an answer shows.
const defaultLines = 100

func (s *Server) executionRoutes() {
	s.routes.on("POST /v1/devboxes/{id}/execute", s.postExecute)
	s.routes.on("POST /v1/devboxes/{id}/execute_async", s.postExecuteAsync)
	s.routes.on("POST /v1/devboxes/{id}/execute_sync", s.postExecuteSync)
	s.routes.on("GET /v1/devboxes/{id}/executions/{execution}", s.getExecution)
	s.routes.on("POST /v1/devboxes/{id}/executions/{execution}/wait_for_status", s.waitExecution)
	s.routes.on("POST /v1/devboxes/{id}/executions/{execution}/kill", s.killExecution)
	s.routes.on("POST /v1/devboxes/{id}/executions/{execution}/send_std_in", s.sendStdIn)
	s.routes.on("GET /v1/devboxes/{id}/executions/{execution}/stream_stdout_updates", s.streamOutput)
	s.routes.on("GET /v1/devboxes/{id}/executions/{execution}/stream_stderr_updates", s.streamOutput)
}

// executeRequest is the body of all three ways to execute.
type executeRequest struct {
	Command           *string  `json:"command"`
	CommandID         string   `json:"command_id"`
	ShellName         *string  `json:"shell_name"`
	AttachStdin       *bool    `json:"attach_stdin"`
	OptimisticTimeout *float64 `json:"optimistic_timeout"`
}

// begin starts what a request asks for.
func (s *Server) begin(r *http.Request, id string, body executeRequest) (*execution, error) {
	if body.Command == nil {
		return nil, badRequest("command is required")
	}
	d, b, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	e := &execution{id: id, command: *body.Command, shell: body.ShellName, stdin: body.AttachStdin != nil && *body.AttachStdin}
	return s.startExecution(d, b, e), nil
}

func (s *Server) postExecute(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[executeRequest](r)
	if err != nil {
		return nil, err
	}
	lines, err := lastLines(r)
	if err != nil {
		return nil, err
	}
	if _, err := uuid.Parse(body.CommandID); err != nil {
		return nil, badRequest("command_id must be a UUIDv7, not %q", body.CommandID)
	}
	if body.AttachStdin != nil && *body.AttachStdin {
		return nil, badRequest("attach_stdin is not supported by execute; use execute_async")
	}
	hold := s.config.Holds.Execution
	if t := body.OptimisticTimeout; t != nil {
		if *t < 0 || *t > 25 {
			return nil, badRequest("optimistic_timeout must be at most 25")
		}
		hold = min(hold, seconds(*t))
	}
	e, err := s.begin(r, body.CommandID, body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), hold)
	defer cancel()
	e.await(ctx, isCompleted)
	return e.view(lines), nil
}

func isCompleted(status string) bool { return status == execCompleted }

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

func (s *Server) postExecuteAsync(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[executeRequest](r)
	if err != nil {
		return nil, err
	}
	e, err := s.begin(r, newExecutionID(), body)
	if err != nil {
		return nil, err
	}
	return e.view(defaultLines), nil
}

func (s *Server) postExecuteSync(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[executeRequest](r)
	if err != nil {
		return nil, err
	}
	if body.AttachStdin != nil && *body.AttachStdin {
		return nil, badRequest("attach_stdin is not valid for synchronous execution")
	}
	e, err := s.begin(r, newExecutionID(), body)
	if err != nil {
		return nil, err
	}
	if !e.await(r.Context(), isCompleted) {
		return nil, r.Context().Err()
	}
	v := e.view(defaultLines)
	return map[string]any{
		"devbox_id": v.DevboxID, "exit_status": v.ExitStatus, "stdout": v.Stdout, "stderr": v.Stderr, "shell_name": v.ShellName,
	}, nil
}

// execution returns the one that a path names.
func (s *Server) execution(r *http.Request) (*devbox, *execution, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, nil, err
	}
	e, ok := d.executions.byID[r.PathValue("execution")]
	if !ok {
		return nil, nil, notFound("Execution %s not found", r.PathValue("execution"))
	}
	return d, e, nil
}

// lastLines reads last_n.
func lastLines(r *http.Request) (int, error) {
	asked := r.URL.Query().Get("last_n")
	if asked == "" {
		return defaultLines, nil
	}
	n, err := strconv.Atoi(asked)
	if err != nil || n < 0 {
		return 0, badRequest("last_n must be a number, not %q", asked)
	}
	return n, nil
}

func (s *Server) getExecution(_ http.ResponseWriter, r *http.Request) (any, error) {
	lines, err := lastLines(r)
	if err != nil {
		return nil, err
	}
	_, e, err := s.execution(r)
	if err != nil {
		return nil, err
	}
	return e.view(lines), nil
}

// waitRequest is the body of both long polls.
type waitRequest struct {
	Statuses       []string `json:"statuses"`
	TimeoutSeconds *float64 `json:"timeout_seconds"`
}

// check refuses what is not a state.
func (q waitRequest) check(known ...string) error {
	if len(q.Statuses) == 0 {
		return badRequest("statuses must name at least one status")
	}
	for _, name := range q.Statuses {
		if !slices.Contains(known, strings.ToLower(name)) {
			return badRequest("Invalid status: %s", name)
		}
	}
	return nil
}

func (q waitRequest) wants(status string) bool {
	return slices.ContainsFunc(q.Statuses, func(name string) bool { return strings.EqualFold(name, status) })
}

// hold returns how long to hold: what is asked for, at most the limit.
func (q waitRequest) hold(deft, limit time.Duration) time.Duration {
	if q.TimeoutSeconds == nil {
		return min(deft, limit)
	}
	return min(max(seconds(*q.TimeoutSeconds), 0), limit)
}

func (s *Server) waitExecution(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[waitRequest](r)
	if err != nil {
		return nil, err
	}
	if err := body.check(execQueued, execRunning, execCompleted); err != nil {
		return nil, err
	}
	lines, err := lastLines(r)
	if err != nil {
		return nil, err
	}
	_, e, err := s.execution(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), body.hold(s.config.Holds.Execution, s.config.Holds.Execution))
	defer cancel()
	if !e.await(ctx, body.wants) {
		return nil, holdEnded("Execution %s did not reach a requested status in time", e.id)
	}
	return e.view(lines), nil
}

func (s *Server) killExecution(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct {
		Group *bool `json:"kill_process_group"`
	}](r)
	if err != nil {
		return nil, err
	}
	_, e, err := s.execution(r)
	if err != nil {
		return nil, err
	}
	e.kill(body.Group != nil && *body.Group)
	// A process that is killed is gone in a moment: the answer shows it.
	ctx, cancel := context.WithTimeout(r.Context(), killWait)
	defer cancel()
	e.await(ctx, isCompleted)
	return e.view(defaultLines), nil
}

// killWait is how long the answer to a kill waits for the end.
const killWait = 2 * time.Second

func (s *Server) sendStdIn(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct{ Text, Signal *string }](r)
	if err != nil {
		return nil, err
	}
	d, e, err := s.execution(r)
	if err != nil {
		return nil, err
	}
	process, err := e.started(r.Context())
	if err != nil {
		return nil, err
	}
	if !e.stdin {
		return nil, badRequest("Execution %s was started without attach_stdin", e.id)
	}
	if process == nil || e.completed() {
		return nil, badRequest("Execution %s is completed", e.id)
	}
	if body.Text != nil {
		if err := process.Input(*body.Text); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	if body.Signal != nil {
		if err := signalInput(process, *body.Signal); err != nil {
			return nil, err
		}
	}
	return map[string]any{"devbox_id": d.id, "execution_id": e.id, "success": true}, nil
}

// streamOutput follows stdout or stderr as server-sent events, each with the position after it. It ends when the command has and all
// is sent, or with a 408 event when nothing has come for a while.
func (s *Server) streamOutput(w http.ResponseWriter, r *http.Request) (any, error) {
	at, err := offset(r)
	if err != nil {
		return nil, err
	}
	_, e, err := s.execution(r)
	if err != nil {
		return nil, err
	}
	events := openEvents(w)
	process, err := e.startedWithin(r.Context(), s.config.Holds.Stream)
	if err != nil {
		events.fail(http.StatusRequestTimeout, "the command has not begun yet")
		return written{}, nil //nolint:nilerr // The event said it.
	}
	if process == nil {
		return written{}, nil
	}
	out := process.Stdout
	if strings.HasSuffix(r.URL.Path, "/stream_stderr_updates") {
		out = process.Stderr
	}
	for {
		ctx, cancel := context.WithTimeout(r.Context(), s.config.Holds.Stream)
		chunk, more, err := out.Next(ctx, at)
		cancel()
		if err != nil {
			events.fail(http.StatusRequestTimeout, "nothing was written for a while")
			return written{}, nil //nolint:nilerr // The event said it.
		}
		for len(chunk) > 0 {
			piece := cut(chunk)
			at += int64(len(piece))
			chunk = chunk[len(piece):]
			if !events.send(map[string]any{"output": strings.ToValidUTF8(string(piece), "\uFFFD"), "offset": at}) {
				return written{}, nil
			}
		}
		if !more {
			return written{}, nil
		}
	}
}

func (e *execution) startedWithin(ctx context.Context, wait time.Duration) (*box.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return e.started(ctx)
}

// offset reads from where a stream is wanted.
func offset(r *http.Request) (int64, error) {
	asked := r.URL.Query().Get("offset")
	if asked == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(asked, 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("offset must be a number, not %q", asked)
	}
	return n, nil
}

// maxChunk is how much of an output one event carries.
const maxChunk = 32 << 10

// cut returns the beginning of an output that fits into an event, in whole characters.
func cut(p []byte) []byte {
	if len(p) <= maxChunk {
		return p
	}
	end := maxChunk
	for end > maxChunk-utf8.UTFMax && !utf8.RuneStart(p[end]) {
		end--
	}
	return p[:end]
}

func signalInput(process *box.Process, signal string) error {
	switch signal {
	case "EOF":
		process.CloseInput()
	case "INTERRUPT":
		process.Signal(syscall.SIGINT, true)
	default:
		return badRequest("Invalid signal: %s", signal)
	}
	return nil
}
