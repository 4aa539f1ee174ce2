package workspace

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"slices"
	"strconv"
	"strings"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

//go:embed base.sh
var baseScript string

//go:embed changes.sh
var changesScript string

//go:embed diff.sh
var diffScript string

// maxSide is the largest side of a diff, in bytes; it is OpenHands'.
const maxSide = 1 << 20

// looking is bash for a look that changes nothing, not even git's index.
func looking(name, script string, args ...string) action.Process {
	p := bash(name, baseScript+script, args...)
	p.Env["GIT_OPTIONAL_LOCKS"] = "0"
	return p
}

// ListChanges compares a folder and the repositories one level below it with their bases.
func (s *Steps) ListChanges(ctx context.Context, req *runtimev1.ListChangesRequest) (*runtimev1.ListChangesResponse, error) {
	const op = "list changes"
	st, dir, err := s.at(ctx, req.GetRuntimeId(), "", req.GetDir())
	if err != nil {
		return nil, err
	}
	d, err := st.process(ctx, "changes", lookLimit, looking("changes", changesScript, dir))
	switch {
	case err != nil:
		return nil, rterr.Wrap(rterr.Internal, op, err)
	case d.code() != 0:
		return nil, rterr.Wrap(rterr.Internal, op, scriptError(d))
	case d.cut:
		return nil, rterr.New(rterr.LimitExceeded, op, "there are too many: their names have more than %d bytes", maxOutput).
			WithRemedy("leave out what is generated: .gitignore")
	}
	changes, err := parseChanges(d.stdout)
	return &runtimev1.ListChangesResponse{Changes: changes}, rterr.Wrap(rterr.Integrity, op, err)
}

var errChanges = errors.New("what the sandbox answers is no list of changes")

// words takes words that are ended by NUL.
type words struct{ rest []byte }

func (w *words) next() (string, error) {
	word, rest, ok := bytes.Cut(w.rest, []byte{0})
	if !ok {
		return "", errChanges
	}
	w.rest = rest
	return string(word), nil
}

// parseChanges reads what changes.sh prints.
func parseChanges(out []byte) ([]*runtimev1.Change, error) {
	w := &words{out}
	var own, below []*runtimev1.Change
	var dirs []string
	for len(w.rest) > 0 {
		dir, err := w.next()
		if err != nil {
			return nil, err
		}
		list, err := w.repository(dir)
		if err != nil {
			return nil, err
		}
		if dir == "." {
			own = list
			continue
		}
		below, dirs = append(below, list...), append(dirs, dir)
	}
	// What is in a repository below is told by that one.
	own = slices.DeleteFunc(own, func(c *runtimev1.Change) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return c.GetPath() == dir || strings.HasPrefix(c.GetPath(), dir+"/") })
	})
	all := append(own, below...)
	slices.SortStableFunc(all, func(a, b *runtimev1.Change) int { return cmp.Compare(a.GetPath(), b.GetPath()) })
	return all, nil
}

// repository reads one repository's part.
func (w *words) repository(dir string) ([]*runtimev1.Change, error) {
	var out []*runtimev1.Change
	seen := map[string]bool{} // git tells some files of a conflict twice
	add := func(status runtimev1.ChangeStatus, path string) {
		path = strings.ToValidUTF8(path, "\uFFFD")
		if dir != "." {
			path = dir + "/" + path
		}
		if !seen[path] {
			seen[path] = true
			out = append(out, &runtimev1.Change{Status: status, Path: path})
		}
	}
	for {
		status, err := w.next()
		if err != nil {
			return nil, err
		}
		if status == "" {
			break
		}
		path, err := w.next()
		if err != nil {
			return nil, err
		}
		add(statusOf(status), path)
	}
	for {
		path, err := w.next()
		if err != nil || path == "" {
			return out, err
		}
		add(runtimev1.ChangeStatus_CHANGE_STATUS_ADDED, path)
	}
}

// statusOf reads git's letter. What is neither of OpenHands' four is a change of some kind: of a file's type, say.
func statusOf(letter string) runtimev1.ChangeStatus {
	switch letter {
	case "A":
		return runtimev1.ChangeStatus_CHANGE_STATUS_ADDED
	case "D":
		return runtimev1.ChangeStatus_CHANGE_STATUS_DELETED
	case "U":
		return runtimev1.ChangeStatus_CHANGE_STATUS_UNMERGED
	default:
		return runtimev1.ChangeStatus_CHANGE_STATUS_MODIFIED
	}
}

// The exit codes of diff.sh.
const (
	codeTooLarge = 3
	codeNeither  = 4
)

// GetDiff returns both sides of a file.
func (s *Steps) GetDiff(ctx context.Context, req *runtimev1.GetDiffRequest) (*runtimev1.GetDiffResponse, error) {
	const op = "get diff"
	st, dir, err := s.at(ctx, req.GetRuntimeId(), "", req.GetDir())
	if err != nil {
		return nil, err
	}
	file := req.GetPath()
	if file == "" || strings.ContainsRune(file, 0) || strings.HasSuffix(file, "/") {
		return nil, rterr.Invalid(op, "path", "must name a file")
	}
	d, err := st.process(ctx, "diff", lookLimit, looking("diff", diffScript, dir, file, strconv.Itoa(maxSide)))
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	switch d.code() {
	case 0:
		resp, err := parseDiff(d.stdout)
		return resp, rterr.Wrap(rterr.Integrity, op, err)
	case codeTooLarge:
		e := rterr.New(rterr.LimitExceeded, op, "%s has more than 1 MiB", file).WithRemedy("look at it in the sandbox")
		e.Retryable = false
		return nil, e
	case codeNeither:
		return nil, rterr.New(rterr.NotFound, op, "there is and was no file %s", file)
	default:
		return nil, rterr.Wrap(rterr.Internal, op, scriptError(d))
	}
}

var errDiff = errors.New("what the sandbox answers is no diff")

// parseDiff reads what diff.sh prints.
func parseDiff(out []byte) (*runtimev1.GetDiffResponse, error) {
	original, rest, err := side(out)
	if err != nil {
		return nil, err
	}
	modified, _, err := side(rest)
	if err != nil {
		return nil, err
	}
	return &runtimev1.GetDiffResponse{Original: original, Modified: modified}, nil
}

// side reads a size, and so many bytes. A file that has shrunk meanwhile is as long as it is.
func side(out []byte) (text string, rest []byte, err error) {
	size, rest, ok := bytes.Cut(out, []byte("\n"))
	if !ok {
		return "", nil, errDiff
	}
	if string(size) == "-" {
		return "", rest, nil
	}
	n, err := strconv.ParseUint(string(size), 10, 31)
	if err != nil {
		return "", nil, errDiff
	}
	end := min(int(n), len(rest)) //nolint:gosec // 31 bits
	return strings.ToValidUTF8(string(rest[:end]), "\uFFFD"), rest[end:], nil
}

const branchScript = `cd -- "$1" || exit 1
in_repository || exit 0
git branch --show-current`

// GetBranch returns the current branch.
func (s *Steps) GetBranch(ctx context.Context, req *runtimev1.GetBranchRequest) (*runtimev1.GetBranchResponse, error) {
	const op = "get branch"
	st, dir, err := s.at(ctx, req.GetRuntimeId(), "", req.GetDir())
	if err != nil {
		return nil, err
	}
	d, err := st.process(ctx, "branch", smallLimit, looking("branch", branchScript, dir))
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	if d.code() != 0 {
		return nil, rterr.Wrap(rterr.Internal, op, scriptError(d))
	}
	return &runtimev1.GetBranchResponse{Branch: strings.TrimSpace(string(d.stdout))}, nil
}
