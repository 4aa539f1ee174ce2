package editor

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// historyEntries is how many texts of one file are kept; historyBytes the size of all texts of all files.
	historyEntries = 10
	historyBytes   = 256 << 20
)

// history keeps the texts that files had, in a folder: the oldest ones go first where there are too many. It outlives the process.
type history struct {
	dir   string
	limit int64

	mu sync.Mutex
	// kept are the texts of each file, the oldest first.
	kept map[string][]version
	size int64
	next uint64
}

// version is one text. Its file is named by the key of the edited file and its number, which counts over all files.
type version struct {
	number uint64
	size   int64
}

func openHistory(dir string, limit int64) (*history, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	h := &history{dir: dir, limit: limit, kept: map[string][]version{}, next: 1}
	for _, e := range entries {
		if err := h.adopt(e); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for key := range h.kept {
		slices.SortFunc(h.kept[key], func(a, b version) int { return cmp.Compare(a.number, b.number) })
	}
	return h, nil
}

// adopt takes over a text of an earlier history. What was not completely written is removed.
func (h *history) adopt(e fs.DirEntry) error {
	key, text, _ := strings.Cut(e.Name(), "-")
	number, err := strconv.ParseUint(text, 16, 64)
	if err != nil || len(key) != 2*sha256.Size {
		return os.Remove(filepath.Join(h.dir, e.Name()))
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	h.kept[key] = append(h.kept[key], version{number, info.Size()})
	h.size += info.Size()
	h.next = max(h.next, number+1)
	return nil
}

func keyOf(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:])
}

func (h *history) name(key string, v version) string {
	return filepath.Join(h.dir, fmt.Sprintf("%s-%016x", key, v.number))
}

// push keeps a text of a file.
func (h *history) push(path, text string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := keyOf(path)
	v := version{h.next, int64(len(text))}
	h.next++
	partial := filepath.Join(h.dir, "partial")
	err := os.WriteFile(partial, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(partial, h.name(key, v))
	}
	if err != nil {
		_ = os.Remove(partial) // The first error says more.
		return err
	}
	h.kept[key] = append(h.kept[key], v)
	h.size += v.size
	if len(h.kept[key]) > historyEntries {
		h.forget(key, 0)
	}
	for h.size > h.limit && h.size > v.size {
		h.forgetOldest()
	}
	return nil
}

// last returns the text that was pushed last; found is false if there is none.
func (h *history) last(path string) (text string, found bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := keyOf(path)
	kept := h.kept[key]
	if len(kept) == 0 {
		return "", false, nil
	}
	raw, err := os.ReadFile(h.name(key, kept[len(kept)-1]))
	return string(raw), err == nil, err
}

// drop forgets the text that was pushed last.
func (h *history) drop(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := keyOf(path)
	if n := len(h.kept[key]); n > 0 {
		h.forget(key, n-1)
	}
}

func (h *history) forget(key string, i int) {
	v := h.kept[key][i]
	_ = os.Remove(h.name(key, v)) // At worst it comes back with the next start.
	h.size -= v.size
	h.kept[key] = slices.Delete(h.kept[key], i, i+1)
	if len(h.kept[key]) == 0 {
		delete(h.kept, key)
	}
}

func (h *history) forgetOldest() {
	oldest, number := "", ^uint64(0)
	for key, kept := range h.kept {
		if kept[0].number < number {
			oldest, number = key, kept[0].number
		}
	}
	h.forget(oldest, 0)
}
