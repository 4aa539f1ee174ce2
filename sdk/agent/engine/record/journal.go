// Package record is the agent's memory of its actions: an append-only file, one write per change of state, so that what was
// promised before a crash is known after it. It is written before anything runs. Only sdk/agent/engine imports it.
//
// A crash of this process loses nothing that was written; a crash of the machine may lose the last moments (there is no fsync),
// but the processes of the sandbox are gone then too.
package record

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Config bounds a journal. All numbers must be positive.
type Config struct {
	// Path of the file; its folder must be there.
	Path string
	// TTL is how long a record is kept after its action is done.
	TTL time.Duration
	// MaxRecords and MaxBytes bound what is kept: the oldest records of done actions go first.
	MaxRecords int
	MaxBytes   int64
	// Dropped is called, with the journal locked, for each record that is no longer kept. May be nil.
	Dropped func(id string)
	// Now is the clock; nil means time.Now.
	Now    func() time.Time
	Logger hclog.Logger
}

// entry is what is kept in memory of one action.
type entry struct {
	// brief is the record without the observation's payload.
	brief *agentv1.ActionRecord
	// at and length are the place of its last frame.
	at, length int64
}

// Journal is safe for concurrent use.
type Journal struct {
	cfg Config

	mu   sync.Mutex
	file *os.File
	size int64
	// live is the sum of the frames that are somebody's last.
	live int64
	byID map[string]*list.Element
	// order has *entry, the oldest first.
	order *list.List
}

// Open reads the journal at cfg.Path, or begins it, and rewrites it without what is no longer needed. A torn end is cut off.
// Integrity if it is of a later format or damaged elsewhere.
func Open(cfg Config) (*Journal, error) {
	const op = "open action journal"
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if err := removeUnfinished(cfg.Path); err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	j := &Journal{cfg: cfg, byID: map[string]*list.Element{}, order: list.New()}
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	j.file = f
	if err := j.load(); err != nil {
		return nil, errors.Join(rterr.Wrap(rterr.Integrity, op, err), f.Close())
	}
	j.expire()
	if err := j.compact(); err != nil {
		return nil, errors.Join(rterr.Wrap(rterr.Internal, op, err), j.file.Close())
	}
	return j, nil
}

// removeUnfinished removes what a crash during a rewrite has left.
func removeUnfinished(path string) error {
	left, err := filepath.Glob(path + ".*")
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func (j *Journal) load() error {
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	for first := true; ; first = false {
		payload, err := readFrame(j.file, j.size, size)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errTorn):
			j.cfg.Logger.Warn("the action journal ends in the middle of a frame; the end is cut off", "bytes", size-j.size)
			return nil
		case err != nil:
			return err
		case first:
			err = checkSchema(payload)
		default:
			err = j.take(payload)
		}
		if err != nil {
			return err
		}
		j.size += frameHeader + int64(len(payload))
	}
}

func (j *Journal) take(payload []byte) error {
	r, _, err := decodeRecord(payload, false)
	if err != nil {
		return err
	}
	j.set(r, j.size, frameHeader+int64(len(payload)))
	return nil
}

// set makes a frame the last of its action.
func (j *Journal) set(r *agentv1.ActionRecord, at, length int64) {
	if r.GetObservation() != nil {
		r.Observation.Payload = nil
	}
	j.live += length
	if e, ok := j.byID[r.GetId()]; ok {
		old := e.Value.(*entry)
		j.live -= old.length
		old.brief, old.at, old.length = r, at, length
		return
	}
	j.byID[r.GetId()] = j.order.PushBack(&entry{brief: r, at: at, length: length})
}

// Put writes a record's present state, and the output that is to be kept with it. r is not kept. LimitExceeded if no record can
// be dropped for a new one; any error means that nothing was recorded.
func (j *Journal) Put(r *agentv1.ActionRecord, outputs ...*agentv1.Output) error {
	frame, err := recordFrame(r, outputs)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return rterr.New(rterr.Unavailable, "", "the action journal is closed")
	}
	if _, known := j.byID[r.GetId()]; !known {
		if err := j.room(int64(len(frame))); err != nil {
			return err
		}
	}
	if err := j.write(frame); err != nil {
		return err
	}
	j.set(briefOf(r), j.size-int64(len(frame)), int64(len(frame)))
	if garbage := j.size - j.live; garbage > minGarbage && garbage > j.live {
		if err := j.compact(); err != nil {
			j.cfg.Logger.Error("cannot rewrite the action journal; it grows on", "error", err)
		}
	}
	return nil
}

// minGarbage is what a journal may hold in vain before it is rewritten.
const minGarbage = 8 << 20

// briefOf copies a record without the observation's payload, which may be megabytes.
func briefOf(r *agentv1.ActionRecord) *agentv1.ActionRecord {
	obs := r.GetObservation()
	if obs == nil {
		return proto.CloneOf(r)
	}
	brief := &agentv1.ActionRecord{Id: r.Id, Kind: r.Kind, Digest: r.Digest, State: r.State, CreatedAt: r.CreatedAt,
		StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Timeout: r.Timeout, Pid: r.Pid, Summary: r.Summary}
	brief.Observation = &agentv1.Observation{ActionId: obs.ActionId, Outcome: obs.Outcome, Error: obs.Error,
		ExitCode: obs.ExitCode, Channels: obs.Channels, StartedAt: obs.StartedAt, FinishedAt: obs.FinishedAt}
	return brief
}

// write appends a frame; what was written of it in vain is cut off again.
func (j *Journal) write(frame []byte) error {
	if _, err := j.file.WriteAt(frame, j.size); err != nil {
		return rterr.Wrap(rterr.Internal, "write action journal", errors.Join(err, j.file.Truncate(j.size)))
	}
	j.size += int64(len(frame))
	return nil
}

// room drops the oldest records until another one fits.
func (j *Journal) room(need int64) error {
	j.expire()
	for j.order.Len() >= j.cfg.MaxRecords || j.live+need > j.cfg.MaxBytes {
		if !j.dropOldest() {
			return rterr.New(rterr.LimitExceeded, "", "%d actions are queued or running, more are not recorded", j.order.Len()).
				WithRan(rterr.RanNo)
		}
	}
	return nil
}

// expire drops what is too old, or too much: a journal may have been opened with smaller bounds.
func (j *Journal) expire() {
	limit := j.cfg.Now().Add(-j.cfg.TTL)
	for e := j.order.Front(); e != nil; {
		next := e.Next()
		r := e.Value.(*entry).brief
		if r.GetCreatedAt().AsTime().After(limit) {
			break
		}
		if r.GetState() == agentv1.ActionState_ACTION_STATE_DONE && !r.GetFinishedAt().AsTime().After(limit) {
			j.drop(e)
		}
		e = next
	}
	for j.order.Len() > j.cfg.MaxRecords || j.live > j.cfg.MaxBytes {
		if !j.dropOldest() {
			return
		}
	}
}

func (j *Journal) dropOldest() bool {
	for e := j.order.Front(); e != nil; e = e.Next() {
		if e.Value.(*entry).brief.GetState() == agentv1.ActionState_ACTION_STATE_DONE {
			j.drop(e)
			return true
		}
	}
	return false
}

func (j *Journal) drop(e *list.Element) {
	old := e.Value.(*entry)
	j.order.Remove(e)
	delete(j.byID, old.brief.GetId())
	j.live -= old.length
	if j.cfg.Dropped != nil {
		j.cfg.Dropped(old.brief.GetId())
	}
}

// compact rewrites the file with the last frame of each record, under another name that then takes its place.
func (j *Journal) compact() error {
	next, err := os.CreateTemp(filepath.Dir(j.cfg.Path), filepath.Base(j.cfg.Path)+".*")
	if err != nil {
		return err
	}
	size, places, err := j.copyTo(next)
	if err == nil {
		err = os.Rename(next.Name(), j.cfg.Path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rewrite journal: %w", err), next.Close(), os.Remove(next.Name()))
	}
	_ = j.file.Close() // Replaced; nothing is buffered.
	j.file, j.size = next, size
	for e := j.order.Front(); e != nil; e = e.Next() {
		at := e.Value.(*entry)
		at.at = places[at]
	}
	return nil
}

func (j *Journal) copyTo(next *os.File) (size int64, places map[*entry]int64, err error) {
	places = make(map[*entry]int64, j.order.Len())
	n, err := next.Write(SchemaFrame(Schema))
	size = int64(n)
	for e := j.order.Front(); e != nil && err == nil; e = e.Next() {
		from := e.Value.(*entry)
		places[from] = size
		_, err = io.Copy(next, io.NewSectionReader(j.file, from.at, from.length))
		size += from.length
	}
	return size, places, err
}

// Brief returns the record of an action without its observation's payload, nil if there is none. It is read-only.
func (j *Journal) Brief(id string) *agentv1.ActionRecord {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e, ok := j.byID[id]; ok {
		return e.Value.(*entry).brief
	}
	return nil
}

// Get reads the whole record of an action and the output kept with it. nil if there is none.
func (j *Journal) Get(id string) (*agentv1.ActionRecord, []*agentv1.Output, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.byID[id]
	if !ok {
		return nil, nil, nil
	}
	if j.file == nil {
		return nil, nil, rterr.New(rterr.Unavailable, "read action journal", "it is closed")
	}
	place := e.Value.(*entry)
	payload, err := readFrame(j.file, place.at, place.at+place.length)
	if err != nil {
		return nil, nil, rterr.Wrap(rterr.Integrity, "read action journal", err)
	}
	return decodeRecord(payload, true)
}

// List returns up to limit records, the newest first, without observation payloads; only those that match, if match is not nil.
// They are read-only.
func (j *Journal) List(limit int, match func(*agentv1.ActionRecord) bool) []*agentv1.ActionRecord {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*agentv1.ActionRecord
	for e := j.order.Back(); e != nil && len(all) < limit; e = e.Prev() {
		if r := e.Value.(*entry).brief; match == nil || match(r) {
			all = append(all, r)
		}
	}
	return all
}

// Close closes the file. Put and Get fail afterwards.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}
