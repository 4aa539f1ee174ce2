// Package spool keeps the output of actions: the end of each channel in memory, the rest in files, all of it bounded. Writers
// never wait for readers; readers start at any offset and go at their own pace; what is no longer kept is told, not hidden.
//
// Output that is soon over costs no file. Whatever is older than 20 ms is in a file, so that it survives this process.
// Only sdk/agent/engine imports it.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// Small is the length up to which a finished channel needs no file: its bytes are handed to whoever keeps its record.
const Small = 64 << 10

// Segments are the parts in which a channel's files are dropped.
const segmentsPerChannel = 16

// Config bounds a store.
type Config struct {
	// Dir is a folder of the store's own; it is made, mode 0700.
	Dir string
	// Memory is the ring of one channel, in bytes; at least 2*Small.
	Memory int
	// Disk bounds the files of one channel, Total those of all, in bytes; the oldest output goes first.
	Disk, Total int64
	Logger      hclog.Logger
}

// Key names a channel: an action and the number of one of its channels.
type Key struct {
	ID      string
	Channel int32
}

// segment is one file: length bytes of a channel from an offset on.
type segment struct {
	from, length uint64
}

// Store holds the channels of an agent.
type Store struct {
	cfg Config

	mu sync.Mutex
	// disk has the files of every channel, oldest first; used is their sum.
	disk map[Key][]segment
	used int64
	// finished are the channels with files that nobody writes to any more, in the order in which they ended.
	finished []Key
}

// Open opens a store and finds what an earlier one has left; keep says of which actions.
func Open(cfg Config, keep func(id string) bool) (*Store, error) {
	cfg.Memory = max(cfg.Memory, 2*Small)
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	s := &Store{cfg: cfg, disk: map[Key][]segment{}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	for _, e := range entries {
		if err := s.find(e, keep); err != nil {
			return nil, fmt.Errorf("open spool: %w", err)
		}
	}
	s.sortFound()
	return s, nil
}

// find takes up one file, or removes it if nobody can want it.
func (s *Store) find(e fs.DirEntry, keep func(id string) bool) error {
	key, from, ok := parseName(e.Name())
	info, err := e.Info()
	if err != nil {
		return err
	}
	if !ok || !keep(key.ID) || info.Size() == 0 {
		return os.RemoveAll(filepath.Join(s.cfg.Dir, e.Name()))
	}
	s.disk[key] = append(s.disk[key], segment{from: from, length: uint64(info.Size())})
	s.used += info.Size()
	return nil
}

func (s *Store) sortFound() {
	for key, segs := range s.disk {
		slices.SortFunc(segs, func(a, b segment) int {
			if a.from < b.from {
				return -1
			}
			return 1
		})
		s.finished = append(s.finished, key)
	}
	slices.SortFunc(s.finished, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
}

// fileName is "ID~CHANNEL~FROM"; ids have no tilde.
func fileName(k Key, from uint64) string {
	return k.ID + "~" + strconv.Itoa(int(k.Channel)) + "~" + strconv.FormatUint(from, 10)
}

func parseName(name string) (k Key, from uint64, ok bool) {
	parts := strings.Split(name, "~")
	if len(parts) != 3 || parts[0] == "" {
		return k, 0, false
	}
	channel, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil {
		return k, 0, false
	}
	from, err = strconv.ParseUint(parts[2], 10, 64)
	return Key{ID: parts[0], Channel: int32(channel)}, from, err == nil
}

func (s *Store) path(k Key, from uint64) string { return filepath.Join(s.cfg.Dir, fileName(k, from)) }

// Keys returns the channels of an action that have files, in the order of their numbers.
func (s *Store) Keys(id string) []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []Key
	for k := range s.disk {
		if k.ID == id {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return int(a.Channel - b.Channel) })
	return keys
}

// Remove drops the files of an action, which must be finished.
func (s *Store) Remove(id string) {
	for _, k := range s.Keys(id) {
		s.drop(k)
	}
}

// drop removes all files of a channel.
func (s *Store) drop(k Key) {
	s.mu.Lock()
	segs := s.disk[k]
	delete(s.disk, k)
	s.finished = slices.DeleteFunc(s.finished, func(f Key) bool { return f == k })
	for _, seg := range segs {
		s.used -= int64(seg.length)
	}
	s.mu.Unlock()
	for _, seg := range segs {
		s.unlink(k, seg)
	}
}

func (s *Store) unlink(k Key, seg segment) {
	if err := os.Remove(s.path(k, seg.from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Logger.Warn("cannot remove spilled output", "action", k.ID, "error", err)
	}
}

// grew accounts for n more bytes of a channel in the segment that begins at from, and drops what is now too much.
func (s *Store) grew(k Key, from uint64, n int) {
	s.mu.Lock()
	segs := s.disk[k]
	if len(segs) == 0 || segs[len(segs)-1].from != from {
		segs = append(segs, segment{from: from})
	}
	segs[len(segs)-1].length += uint64(n)
	s.disk[k] = segs
	s.used += int64(n)
	gone := s.surplus(k)
	s.mu.Unlock()
	for _, g := range gone {
		s.unlink(g.key, g.segment)
	}
}

type victim struct {
	key Key
	segment
}

// surplus takes out what is beyond the bounds: the channel's own oldest segments, then those of finished channels, then again
// its own. The last segment of a channel that is being written stays.
func (s *Store) surplus(k Key) (gone []victim) {
	sum := int64(0)
	for _, seg := range s.disk[k] {
		sum += int64(seg.length)
	}
	for sum > s.cfg.Disk && len(s.disk[k]) > 1 {
		sum -= int64(s.disk[k][0].length)
		gone = append(gone, s.takeOldest(k))
	}
	for s.used > s.cfg.Total && len(s.finished) > 0 {
		old := s.finished[0]
		gone = append(gone, s.takeOldest(old))
		if len(s.disk[old]) == 0 {
			delete(s.disk, old)
			s.finished = s.finished[1:]
		}
	}
	for s.used > s.cfg.Total && len(s.disk[k]) > 1 {
		gone = append(gone, s.takeOldest(k))
	}
	return gone
}

func (s *Store) takeOldest(k Key) victim {
	seg := s.disk[k][0]
	s.disk[k] = s.disk[k][1:]
	s.used -= int64(seg.length)
	return victim{key: k, segment: seg}
}

// rename moves the files of a channel. A file that cannot be moved is found missing by who reads it: a gap.
func (s *Store) rename(from, to Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	segs, ok := s.disk[from]
	if !ok {
		return
	}
	delete(s.disk, from)
	s.disk[to] = segs
	for _, seg := range segs {
		if err := os.Rename(s.path(from, seg.from), s.path(to, seg.from)); err != nil {
			s.cfg.Logger.Error("cannot rename spilled output", "action", to.ID, "error", err)
		}
	}
}

// ended puts a channel with files into the line of those that may be dropped.
func (s *Store) ended(k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.disk[k]) > 0 {
		s.finished = append(s.finished, k)
	}
}

// lookup returns the segment that has offset off, or the first one after it. ok is false if there is neither.
func (s *Store) lookup(k Key, off uint64) (seg segment, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.disk[k] {
		if off < seg.from+seg.length {
			return seg, true
		}
	}
	return segment{}, false
}

// has reports whether a segment should be there.
func (s *Store) has(k Key, from uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.disk[k], func(seg segment) bool { return seg.from == from })
}

// Used returns the bytes in files.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
