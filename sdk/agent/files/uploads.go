package files

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	// tempPrefix begins the names of unfinished files. They are left out of listings and archives.
	tempPrefix = ".openhands-rt-upload-"
	// notesDir is the folder in the state directory that names unfinished uploads.
	notesDir = "uploads"
	// maxNote bounds a note: a path and an id.
	maxNote = 16 << 10
)

func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// uploads are those under way and the last ones that were finished.
type uploads struct {
	s    *Service
	mu   sync.Mutex
	live map[string]*upload
	// done are the keys of finished uploads in live, oldest first.
	done   []string
	loaded bool
}

func newUploads(s *Service) *uploads { return &uploads{s: s, live: map[string]*upload{}} }

func newUpload(path, id string) *upload {
	return &upload{path: path, id: id, temp: tempName(path, id), turn: make(chan struct{}, 1), hash: sha256.New(), last: time.Now()}
}

// find returns an upload, new if it is not known. A new one sweeps those that nobody goes on with.
func (t *uploads) find(path, id string) (*upload, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load()
	key := path + "\x00" + id
	if u, ok := t.live[key]; ok {
		return u, nil
	}
	t.sweep()
	if len(t.live)-len(t.done) >= maxUploads {
		return nil, rterr.New(rterr.LimitExceeded, "", "%d uploads are under way", maxUploads).WithRan(rterr.RanNo)
	}
	u := newUpload(path, id)
	t.live[key] = u
	return u, nil
}

// interrupt ends the request that holds u.
func (t *uploads) interrupt(u *upload) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u.cut != nil {
		u.cut()
	}
}

// give ends a turn. An upload of which nothing has arrived is not kept.
func (t *uploads) give(u *upload) {
	t.mu.Lock()
	u.cut, u.last = nil, time.Now()
	var err error
	if u.have == 0 && u.sum == "" {
		err = t.forget(u)
	}
	t.mu.Unlock()
	<-u.turn
	if err != nil {
		t.s.log.Warn("an empty upload could not be removed", "path", u.path, "error", err)
	}
}

// forget takes u out of the books and away from the disk. Called with mu held.
func (t *uploads) forget(u *upload) error {
	if t.live[u.path+"\x00"+u.id] == u {
		delete(t.live, u.path+"\x00"+u.id)
	}
	err := t.s.removeTemp(u)
	return errors.Join(err, t.unnote(u))
}

// drop gives up the file of an upload whose turn the caller has; it may begin again from the start.
func (t *uploads) drop(u *upload) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	u.have = 0
	return t.forget(u)
}

func (s *Service) removeTemp(u *upload) error {
	dir, _, err := s.space.Parent(u.path)
	if err != nil {
		return nil // the folder is gone, and the file with it
	}
	defer dir.Close()
	err = unix.Unlinkat(int(dir.Fd()), u.temp, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return space.PathError("remove", u.path, err)
}

// finished remembers a finished upload for repeated requests, and forgets the oldest of them.
func (t *uploads) finished(u *upload, sum string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	u.sum = sum
	t.done = append(t.done, u.path+"\x00"+u.id)
	if len(t.done) > maxFinished {
		delete(t.live, t.done[0])
		t.done = append(t.done[:0], t.done[1:]...)
	}
	return t.unnote(u)
}

// offset returns how much of an upload has arrived, without disturbing the request that brings more.
func (t *uploads) offset(path, id string) (have int64, complete bool, err error) {
	t.mu.Lock()
	t.load()
	u, known := t.live[path+"\x00"+id]
	t.mu.Unlock()
	if known {
		select {
		case u.turn <- struct{}{}:
			defer func() { <-u.turn }()
			if u.sum != "" {
				return u.have, true, nil
			}
		default: // under way: the file tells
		}
	}
	dir, _, err := t.s.space.Parent(path)
	if err != nil {
		return 0, false, err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), tempName(path, id), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, false, rterr.New(rterr.NotFound, "", "nothing of upload %s has arrived", id).WithRan(rterr.RanNo)
	}
	return st.Size, false, nil
}

// sweep drops what nobody has gone on with for too long. Called with mu held.
func (t *uploads) sweep() {
	for _, u := range t.live {
		if u.cut != nil || u.sum != "" || time.Since(u.last) < t.s.cfg.UploadTTL {
			continue
		}
		if err := t.forget(u); err != nil {
			t.s.log.Warn("a stale upload could not be removed", "path", u.path, "error", err)
			continue
		}
		t.s.log.Info("a stale upload was removed", "path", u.path, "bytes", u.have)
	}
}

// note is what is kept of an unfinished upload over a restart.
type note struct {
	Schema int    `json:"schema"`
	Path   string `json:"path"`
	Upload string `json:"upload"`
}

const noteSchema = 1

func (t *uploads) noteFile(u *upload) string {
	sum := sha256.Sum256([]byte(u.path + "\x00" + u.id))
	return filepath.Join(t.s.cfg.StateDir, notesDir, hex.EncodeToString(sum[:]))
}

// note writes down an upload before its file is made, so that none is left behind unnamed.
func (t *uploads) note(u *upload) error {
	if u.noted || t.s.cfg.StateDir == "" {
		return nil
	}
	raw, err := json.Marshal(note{noteSchema, u.path, u.id})
	if err != nil {
		return err
	}
	name := t.noteFile(u)
	err = os.WriteFile(name, raw, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o700); err == nil {
			err = os.WriteFile(name, raw, 0o600)
		}
	}
	u.noted = err == nil
	return err
}

func (t *uploads) unnote(u *upload) error {
	if !u.noted {
		return nil
	}
	err := os.Remove(t.noteFile(u))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		u.noted = false
		return nil
	}
	return err
}

// load reads the notes of an earlier start, once. Called with mu held.
func (t *uploads) load() {
	if t.loaded || t.s.cfg.StateDir == "" {
		return
	}
	t.loaded = true
	dir, err := os.Open(filepath.Join(t.s.cfg.StateDir, notesDir))
	if err != nil {
		return // none were ever written
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxUploads)
	for _, name := range names {
		if noteErr := t.loadNote(filepath.Join(dir.Name(), name)); noteErr != nil {
			err = errors.Join(err, noteErr)
		}
	}
	if err != nil && len(names) > 0 {
		t.s.log.Warn("notes of unfinished uploads could not be read", "error", err)
	}
}

func (t *uploads) loadNote(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.Size() > maxNote {
		return rterr.New(rterr.Integrity, "read "+name, "is larger than any note")
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var n note
	if err := json.Unmarshal(raw, &n); err != nil {
		return err
	}
	if n.Schema != noteSchema || !filepath.IsAbs(n.Path) || checkUpload(n.Upload) != nil {
		return rterr.New(rterr.Integrity, "read "+name, "is not a note of this version")
	}
	u := newUpload(n.Path, n.Upload)
	u.noted, u.last = true, info.ModTime()
	if written, size, err := t.tempState(u); err == nil {
		u.last, u.have = written, size
	}
	t.live[u.path+"\x00"+u.id] = u
	return nil
}

// tempState returns when the file of an upload was last written to, and its size.
func (t *uploads) tempState(u *upload) (time.Time, int64, error) {
	dir, _, err := t.s.space.Parent(u.path)
	if err != nil {
		return time.Time{}, 0, err
	}
	defer dir.Close()
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), u.temp, &st, unix.AT_SYMLINK_NOFOLLOW)
	return time.Unix(st.Mtim.Unix()), st.Size, err
}
