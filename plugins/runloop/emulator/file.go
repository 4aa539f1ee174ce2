package emulator

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

func (s *Server) fileRoutes() {
	s.routes.on("POST /v1/devboxes/{id}/write_file_contents", s.writeFile)
	s.routes.on("POST /v1/devboxes/{id}/write_file", s.writeFile)
	s.routes.on("POST /v1/devboxes/{id}/read_file_contents", s.readFile)
	s.routes.on("POST /v1/devboxes/{id}/upload_file", s.uploadFile)
	s.routes.on("POST /v1/devboxes/{id}/download_file", s.downloadFile)
}

// The exit statuses of the scripts below.
const (
	exitMissing = 44
	exitFolder  = 45
)

// Files are opened by the devbox's own user in the devbox: its rights and links count, and no path leads out.
const (
	writeScript = `mkdir -p -- "$(dirname -- "$1")" && cat >"$1"`
	readScript  = `[ -e "$1" ] || exit 44; [ -d "$1" ] && exit 45; stat -Lc %s -- "$1" && exec cat -- "$1"`
)

// place makes a path absolute: a relative one begins in the home, as ~ does.
func place(b *box.Box, name string) (string, error) {
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		return "", badRequest("Invalid path: %q", name)
	case name == "~", strings.HasPrefix(name, "~/"):
		return path.Join(b.Home(), name[1:]), nil
	case !strings.HasPrefix(name, "/"):
		return path.Join(b.Home(), name), nil
	default:
		return path.Clean(name), nil
	}
}

// put writes a file from a reader.
func put(b *box.Box, name string, from io.Reader) error {
	target, err := place(b, name)
	if err != nil {
		return err
	}
	cmd := b.Command(nil, "/bin/bash", "-c", writeScript, "bash", target)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = from, &complaint
	if err := cmd.Run(); err != nil {
		return badRequest("Failed to write file %s: %s", name, reason(complaint.String(), err))
	}
	return nil
}

func reason(complaint string, err error) string {
	if complaint = strings.TrimSpace(complaint); complaint != "" {
		return complaint
	}
	return err.Error()
}

func (s *Server) writeFile(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct {
		FilePath string  `json:"file_path"`
		Contents *string `json:"contents"`
	}](r)
	if err != nil {
		return nil, err
	}
	if body.Contents == nil {
		return nil, badRequest("contents is required")
	}
	d, b, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if err := put(b, body.FilePath, strings.NewReader(*body.Contents)); err != nil {
		return nil, err
	}
	d.logs.add(logEntry{Level: "info", Source: "files", Message: text("wrote " + body.FilePath)})
	return map[string]any{"devbox_id": d.id, "exit_status": 0, "stdout": "", "stderr": "", "shell_name": nil}, nil
}

// opened is a file of a devbox that is being read.
type opened struct {
	size int64
	body io.Reader
	cmd  *exec.Cmd
	// complaint is what the reading program says.
	complaint *bytes.Buffer
}

// open begins to read a file. The caller reads all of it and calls wait.
func open(b *box.Box, name string) (*opened, error) {
	target, err := place(b, name)
	if err != nil {
		return nil, err
	}
	f := &opened{cmd: b.Command(nil, "/bin/bash", "-c", readScript, "bash", target), complaint: new(bytes.Buffer)}
	f.cmd.Stderr = f.complaint
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := f.cmd.Start(); err != nil {
		return nil, err
	}
	var line []byte
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(out, one); err != nil {
			return nil, f.refusal(name, f.cmd.Wait())
		}
		if one[0] == '\n' {
			break
		}
		line = append(line, one[0])
	}
	f.size, _ = strconv.ParseInt(string(line), 10, 64)
	f.body = out
	return f, nil
}

func (f *opened) refusal(name string, err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		switch exit.ExitCode() {
		case exitMissing:
			return notFound("File not found: %s", name)
		case exitFolder:
			return badRequest("%s is a directory", name)
		}
	}
	return badRequest("Failed to read file %s: %s", name, strings.TrimSpace(f.complaint.String()))
}

func (s *Server) readFile(w http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct {
		FilePath string `json:"file_path"`
	}](r)
	if err != nil {
		return nil, err
	}
	_, b, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	f, err := open(b, body.FilePath)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f.body)
	if waited := f.cmd.Wait(); err != nil || waited != nil {
		return nil, badRequest("Failed to read file %s: %s", body.FilePath, strings.TrimSpace(f.complaint.String()))
	}
	if !utf8.Valid(content) {
		content = bytes.ToValidUTF8(content, []byte("\uFFFD"))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content)
	return written{}, nil
}

func (s *Server) downloadFile(w http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct{ Path string }](r)
	if err != nil {
		return nil, err
	}
	_, b, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	f, err := open(b, body.Path)
	if err != nil {
		return nil, err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+strings.ReplaceAll(path.Base(body.Path), `"`, "")+`"`)
	_, err = io.Copy(w, f.body)
	if waited := f.cmd.Wait(); err != nil || waited != nil {
		// The status is sent: only a broken connection can say that the file is not whole.
		panic(http.ErrAbortHandler)
	}
	return written{}, nil
}

// uploadFile takes a form whose path may come before or after the file, which is kept in the devbox meanwhile.
func (s *Server) uploadFile(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, b, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	form, err := r.MultipartReader()
	if err != nil {
		return nil, badRequest("The body must be multipart/form-data: %v", err)
	}
	target, waiting := "", ""
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, failure(http.StatusRequestTimeout, "timeout", "waiting for request data: %v", err)
		}
		switch part.FormName() {
		case "path":
			if target, err = formText(part); err != nil {
				return nil, err
			}
		case "file":
			to := target
			if to == "" {
				waiting = "/tmp/.upload-" + randomText(base36, idLength)
				to = waiting
			}
			if err := put(b, to, part); err != nil {
				return nil, err
			}
		}
	}
	if target == "" {
		return nil, badRequest("path is required")
	}
	if err := finishUpload(b, waiting, target); err != nil {
		return nil, err
	}
	d.logs.add(logEntry{Level: "info", Source: "files", Message: text("uploaded " + target)})
	return struct{}{}, nil
}

func formText(part *multipart.Part) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(part, maxPath))
	if err != nil {
		return "", failure(http.StatusRequestTimeout, "timeout", "waiting for request data: %v", err)
	}
	return string(raw), nil
}

// maxPath is how long a path may be.
const maxPath = 4096

// finishUpload puts a file whose path came last where it belongs.
func finishUpload(b *box.Box, waiting, target string) error {
	if waiting == "" {
		return nil
	}
	to, err := place(b, target)
	if err != nil {
		return err
	}
	out, err := b.Command(nil, "/bin/bash", "-c", `mkdir -p -- "$(dirname -- "$2")" && mv -fT -- "$1" "$2"`, "bash", waiting, to).CombinedOutput()
	if err != nil {
		return badRequest("Failed to write file %s: %s", target, reason(string(out), err))
	}
	return nil
}
