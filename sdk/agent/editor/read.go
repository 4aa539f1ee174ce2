package editor

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/editor/charset"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// binaryFile is a literal of the protocol: OpenHands makes status 415 of it.
const binaryFile = "ERROR_BINARY_FILE"

// read does a read action.
func (e *Editor) read(ctx context.Context, a *action.Read, cwd func() string) ([]byte, error) {
	// As in the original, a relative path is not looked at: that is why images are read by relative paths.
	if strings.HasPrefix(a.Path, "/") {
		if head, err := e.files.head(a.Path); err == nil && charset.Binary(head) {
			return action.ErrorObservation(binaryFile), nil
		}
	}
	if a.ImplSource == action.ImplOHACI {
		return e.readView(ctx, a)
	}
	where := cwd()
	name := resolve(where, a.Path)
	if kind := dataType(name); kind != "" {
		return e.readData(name, where, kind)
	}
	return e.readText(a, name, where)
}

// resolve is a path as the original makes it absolute.
func resolve(cwd, p string) string {
	if strings.HasPrefix(p, "/") {
		return pythonPath(p)
	}
	return pythonPath(cwd + "/" + p)
}

// readView is the editor's view. Refusals are read observations too.
func (e *Editor) readView(ctx context.Context, a *action.Read) ([]byte, error) {
	c := command{name: "view", path: a.Path}
	c.lines, c.badLines = parseRange(a.ViewRange)
	content, err := answer(e.run(ctx, c))
	if err != nil {
		return nil, err
	}
	payload := readObservation(a.Path, action.ImplOHACI, content)
	if len(payload) > maxObservation {
		payload = readObservation(a.Path, action.ImplOHACI, clip(content, clipAll))
	}
	return payload, nil
}

// dataType is the media type of what is read as a data URL, empty for text.
func dataType(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".png", ".gif", ".bmp":
		return "image/" + ext[1:]
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".pdf":
		return "application/pdf"
	case ".mp4", ".webm":
		return "video/" + ext[1:]
	case ".ogg":
		return "audio/ogg"
	}
	return ""
}

func (e *Editor) readData(name, cwd, kind string) ([]byte, error) {
	data, err := e.files.read(name)
	if err != nil {
		return readFailed(name, cwd, err)
	}
	if base64.StdEncoding.EncodedLen(len(data)) > maxObservation-1024 {
		return tooLargeToRead(name, len(data)), nil
	}
	return readObservation(name, action.ImplDefault, "data:"+kind+";base64,"+base64.StdEncoding.EncodeToString(data)), nil
}

func (e *Editor) readText(a *action.Read, name, cwd string) ([]byte, error) {
	data, err := e.files.read(name)
	if err != nil {
		return readFailed(name, cwd, err)
	}
	if !utf8.Valid(data) {
		return action.ErrorObservation("File could not be decoded as utf-8: " + name + "."), nil
	}
	content := strings.Join(pick(strings.SplitAfter(newlines(string(data)), "\n"), a.Start, a.End), "")
	payload := readObservation(name, action.ImplDefault, content)
	if len(payload) > maxObservation {
		return tooLargeToRead(name, len(content)), nil
	}
	return payload, nil
}

// pick is the range of lines of a read action, by the rules of the original.
func pick(lines []string, start, end int) []string {
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	}
	n := len(lines)
	start = min(max(start, 0), n)
	if end == -1 {
		return lines[start:]
	}
	end = min(max(end, 0), n)
	first := max(0, min(start, n-2))
	return slice(lines, first, max(first+1, end))
}

func tooLargeToRead(name string, size int) []byte {
	return action.ErrorObservation(fmt.Sprintf("File is too large to be read at once (%.1fMB): %s. Read a range of its lines.",
		float64(size)/1024/1024, name))
}

// readFailed tells what kept a file from being read. What the original does not catch is no observation.
func readFailed(name, cwd string, err error) ([]byte, error) {
	large, isLarge := errors.AsType[tooLarge](err)
	switch {
	case isLarge:
		return action.ErrorObservation(large.Error()), nil
	case errors.Is(err, fs.ErrNotExist):
		return action.ErrorObservation("File not found: " + name + ". Your current working directory is " + cwd + "."), nil
	case errors.Is(err, unix.EISDIR):
		return action.ErrorObservation("Path is a directory: " + name + ". You can only read files"), nil
	case errors.Is(err, errSpecial):
		return action.ErrorObservation("Path is not a regular file: " + name + ". You can only read files"), nil
	}
	return nil, failure(err, name)
}

// failure is what the original answers with status 500: the text of its exception.
func failure(err error, name string) error {
	reason := rterr.Internal
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		reason = rterr.PermissionDenied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		reason = rterr.LimitExceeded
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		reason = rterr.InvalidArgument
	}
	return rterr.New(reason, "", "%s", osError(err, name)).WithCause(err).WithRan(rterr.RanNo)
}
