// Package folder is where the local backend keeps its sandboxes: one folder each, with a record that says what it is.
//
//	STATE_DIR/sandboxes/SANDBOX_ID/
//	    meta.json    the record (Meta)
//	    agent.sock   the agent's socket
//	    agent.log    what the agent says
//	    state/       what the agent keeps
//	    home/        HOME
//	    workspace/   the workspace, unless the client gave one
//	    root/        empty; the new root is built over it
//
// The disk is the authority: whoever holds a sandbox's lock may change it, and a plugin that dies leaves nothing half-known.
package folder

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Schema is the number of Meta's schema; a newer one is refused.
const Schema = 1

// maxMeta is the largest record that is read, in bytes.
const maxMeta = 1 << 20

// Meta is the record of one sandbox. It holds no secret.
type Meta struct {
	Schema     int               `json:"schema"`
	SandboxID  string            `json:"sandbox_id"`
	Owner      string            `json:"owner"`
	Backend    string            `json:"backend"`
	RuntimeID  string            `json:"runtime_id"`
	SID        string            `json:"sid"`
	IntentID   string            `json:"intent_id"`
	Generation uint64            `json:"generation"`
	Labels     map[string]string `json:"labels,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	LeaseUntil time.Time         `json:"lease_until,omitzero"`
	// Workspace is the real folder; Given if it is not ours to remove.
	Workspace string `json:"workspace"`
	Given     bool   `json:"given,omitempty"`
	// Mounted: the sandbox has a root of its own.
	Mounted bool `json:"mounted,omitempty"`
	// Username inside; empty in records of older versions: the daemon's own user.
	Username string `json:"username,omitempty"`
	// Cgroup is the name under which its cgroups were made.
	Cgroup string `json:"cgroup"`
	Socket string `json:"socket"`
	Nonce  string `json:"nonce"`
	// The agent's process; PID is 0 before it was started.
	PID       int    `json:"pid,omitempty"`
	StartTime uint64 `json:"start_time,omitempty"`
	BootID    string `json:"boot_id"`
	// Ready: the agent has answered once. Paused: it was frozen through this backend.
	Ready  bool `json:"ready,omitempty"`
	Paused bool `json:"paused,omitempty"`
}

// Root is the folder of all sandboxes of a backend.
type Root struct{ dir string }

// Open makes the folder, mode 0700, and returns it.
func Open(stateDir string) (Root, error) {
	if !filepath.IsAbs(stateDir) {
		return Root{}, rterr.Invalid("open state folder", "state_dir", "%q is not an absolute path", stateDir)
	}
	dir := filepath.Join(stateDir, "sandboxes")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Root{}, rterr.Wrap(rterr.Internal, "open state folder", err)
	}
	return Root{dir: dir}, nil
}

// Dir returns the folder itself.
func (r Root) Dir() string { return r.dir }

var idPattern = regexp.MustCompile(`^s-[a-z2-7]{20}$`)

// ID derives a sandbox's id from what makes it one: the same intent of the same owner is the same sandbox, whoever asks.
func ID(owner, intent string) string {
	sum := sha256.Sum256([]byte(owner + "\x00" + intent))
	return "s-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:20])
}

// CheckID refuses what can be no sandbox's id, and so no folder's name.
func CheckID(id string) error {
	if !idPattern.MatchString(id) {
		return rterr.Invalid("", "handle.sandbox_id", "%q is no id of a local sandbox", id)
	}
	return nil
}

// Path returns the path of something in a sandbox's folder.
func (r Root) Path(id string, elem ...string) string {
	return filepath.Join(append([]string{r.dir, id}, elem...)...)
}

// Lock is the right to change one sandbox, across plugin processes. It ends with the process at the latest.
type Lock struct{ f *os.File }

// Lock takes the lock of a sandbox, whose folder is made if create. Unavailable if another process holds it; a NotFound error
// if there is no folder. The caller sees to it that this process asks once at a time.
func (r Root) Lock(id string, create bool) (*Lock, error) {
	const op = "lock sandbox"
	if create {
		if err := os.Mkdir(r.Path(id), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, rterr.Wrap(rterr.Internal, op, err)
		}
	}
	f, err := os.Open(r.Path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, rterr.New(rterr.NotFound, op, "there is no sandbox %s", id)
	}
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && !r.isStill(id, f) {
		err = errors.New("it is being removed")
	}
	if err != nil {
		_ = f.Close() // Nothing was written.
		return nil, rterr.New(rterr.Unavailable, op, "another process is at work on %s", id).WithCause(err)
	}
	return &Lock{f: f}, nil
}

// isStill reports whether the folder is still the one that was opened: a lock on one that was removed meanwhile locks nothing.
func (r Root) isStill(id string, f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(r.Path(id))
	return err == nil && os.SameFile(opened, named)
}

// Close gives the lock back. Safe to call on nil, and twice.
func (l *Lock) Close() {
	if l != nil {
		_ = l.f.Close() // A folder that was read; a second Close says that it is closed.
	}
}

// Read returns the record of a sandbox. NotFound if there is none; Integrity if it cannot be understood.
func (r Root) Read(id string) (Meta, error) {
	const op = "read sandbox record"
	if err := CheckID(id); err != nil {
		return Meta{}, err
	}
	raw, err := os.ReadFile(r.Path(id, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Meta{}, rterr.New(rterr.NotFound, op, "there is no sandbox %s", id)
	}
	if err != nil {
		return Meta{}, rterr.Wrap(rterr.Internal, op, err)
	}
	m, err := decode(raw)
	if err != nil {
		return Meta{}, rterr.Wrap(rterr.Integrity, op, err)
	}
	if m.SandboxID != id {
		return Meta{}, rterr.New(rterr.Integrity, op, "the record in %s is of %q", id, m.SandboxID)
	}
	return m, nil
}

func decode(raw []byte) (Meta, error) {
	if len(raw) > maxMeta {
		return Meta{}, fmt.Errorf("the record has %d bytes", len(raw))
	}
	var m Meta
	if err := json.Unmarshal(raw, &m); err != nil {
		return Meta{}, err
	}
	if m.Schema < 1 || m.Schema > Schema {
		return Meta{}, fmt.Errorf("the record has schema %d, known is %d", m.Schema, Schema)
	}
	return m, nil
}

// Write replaces the record of a sandbox, whose folder must be there. Whoever reads sees the old one or the new one.
func (r Root) Write(m Meta) error {
	const op = "write sandbox record"
	m.Schema = Schema
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	tmp := r.Path(m.SandboxID, "meta.json.new")
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	return rterr.Wrap(rterr.Internal, op, os.Rename(tmp, r.Path(m.SandboxID, "meta.json")))
}

// IDs returns the ids of all folders, sorted.
func (r Root) IDs() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "list sandboxes", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && idPattern.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// trash is the prefix of folders that are being removed.
const trash = ".trash-"

// Remove removes a sandbox's folder, at once for whoever looks, then its contents. No error if there is none.
func (r Root) Remove(id string) error {
	const op = "remove sandbox folder"
	gone := filepath.Join(r.dir, trash+id+"-"+rand.Text())
	err := os.Rename(r.Path(id), gone)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	return rterr.Wrap(rterr.Internal, op, removeAll(gone))
}

// removeAll also removes folders that their owner made unreadable, as a build's read-only caches are.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// What cannot be opened up is named by the second attempt.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // a sandbox that has ended swaps no folder for a link
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// Sweep removes what a plugin that died left half-removed.
func (r Root) Sweep() error {
	left, err := filepath.Glob(filepath.Join(r.dir, trash+"*"))
	if err != nil {
		return rterr.Wrap(rterr.Internal, "sweep sandboxes", err)
	}
	var errs []error
	for _, dir := range left {
		errs = append(errs, removeAll(dir))
	}
	return rterr.Wrap(rterr.Internal, "sweep sandboxes", errors.Join(errs...))
}
