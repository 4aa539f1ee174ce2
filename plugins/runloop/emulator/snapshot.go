package emulator

import (
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// The states of a snapshot.
const (
	snapshotInProgress = "in_progress"
	snapshotComplete   = "complete"
	snapshotError      = "error"
	snapshotDeleted    = "deleted"
)

// maxCommitMessage is how many characters a commit message may have.
const maxCommitMessage = 1000

// snapshot is a copy of a devbox's disk. The server's lock guards it.
type snapshot struct {
	id, devboxID, disk string
	blueprintID        *string
	name, message      *string
	metadata           map[string]string
	created            int64
	size               int64
	status             string
	problem            *string
	done               chan struct{}
}

type snapshotView struct {
	ID                string            `json:"id"`
	Name              *string           `json:"name"`
	CreateTimeMs      int64             `json:"create_time_ms"`
	Metadata          map[string]string `json:"metadata"`
	SourceDevboxID    string            `json:"source_devbox_id"`
	SourceBlueprintID *string           `json:"source_blueprint_id"`
	CommitMessage     *string           `json:"commit_message"`
	SizeBytes         *int64            `json:"size_bytes"`
}

func (p *snapshot) view() any {
	v := snapshotView{
		ID: p.id, Name: p.name, CreateTimeMs: p.created, Metadata: maps.Clone(p.metadata), SourceDevboxID: p.devboxID,
		SourceBlueprintID: p.blueprintID, CommitMessage: p.message,
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if p.status == snapshotComplete {
		v.SizeBytes = pointer(p.size)
	}
	return v
}

func (s *Server) snapshotRoutes() {
	s.routes.on("POST /v1/devboxes/{id}/snapshot_disk", s.postSnapshot)
	s.routes.on("POST /v1/devboxes/{id}/snapshot_disk_async", s.postSnapshotAsync)
	s.routes.on("GET /v1/devboxes/disk_snapshots", s.listSnapshots)
	s.routes.on("GET /v1/devboxes/disk_snapshots/list_public", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return page(r, "snapshots", []*snapshot{}, func(p *snapshot) string { return p.id }, (*snapshot).view)
	})
	s.routes.on("GET /v1/devboxes/disk_snapshots/{id}", s.getSnapshot)
	s.routes.on("POST /v1/devboxes/disk_snapshots/{id}", s.updateSnapshot)
	s.routes.on("POST /v1/devboxes/disk_snapshots/{id}/delete", s.deleteSnapshot)
	s.routes.on("GET /v1/devboxes/disk_snapshots/{id}/status", s.snapshotStatus)
}

// snapshotRequest is the body of both ways to take one, and of an update.
type snapshotRequest struct {
	Name          *string           `json:"name"`
	Metadata      map[string]string `json:"metadata"`
	CommitMessage *string           `json:"commit_message"`
}

func (q snapshotRequest) check() error {
	if q.CommitMessage != nil && len([]rune(*q.CommitMessage)) > maxCommitMessage {
		return badRequest("commit_message must be at most %d characters long", maxCommitMessage)
	}
	return nil
}

// snapshot begins to copy a devbox's disk.
func (s *Server) snapshot(r *http.Request) (*snapshot, error) {
	body, err := decode[snapshotRequest](r)
	if err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if d.status != running && d.status != suspended {
		return nil, badRequest("Devbox %s cannot be snapshotted: it is in state %s", d.id, d.status)
	}
	id := newID("snp")
	p := &snapshot{
		id: id, devboxID: d.id, disk: s.diskOf("snapshots", id), blueprintID: d.blueprintID, name: body.Name, message: body.CommitMessage,
		metadata: maps.Clone(body.Metadata), created: nowMs(), status: snapshotInProgress, done: make(chan struct{}),
	}
	s.state.snapshots.add(id, p)
	d.snapshotting++
	b := d.box
	s.work.Go(func() { s.takeSnapshot(d, b, p) })
	return p, nil
}

func (s *Server) takeSnapshot(d *devbox, b *box.Box, p *snapshot) {
	defer close(p.done)
	err := pause(d.life, s.config.Delay)
	if err == nil && b != nil {
		// What commands have written lies in the kernel's cache; a copy reads it from there.
		err = copyDisk(d.life, d.disk, p.disk)
	} else if err == nil {
		err = copyDisk(s.running, d.disk, p.disk)
	}
	size := sizeOf(p.disk)
	s.mu.Lock()
	defer s.mu.Unlock()
	d.snapshotting--
	switch {
	case p.status == snapshotDeleted:
	case err != nil:
		p.status, p.problem = snapshotError, text(err.Error())
	default:
		p.status, p.size = snapshotComplete, size
	}
}

// sizeOf sums up the files below a folder; what cannot be read counts nothing.
func sizeOf(folder string) (sum int64) {
	_ = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // See above.
		}
		if info, err := e.Info(); err == nil && e.Type().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

func (s *Server) postSnapshotAsync(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, err := s.snapshot(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.view(), nil
}

func (s *Server) postSnapshot(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, err := s.snapshot(r)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.done:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.status != snapshotComplete {
		return nil, failure(http.StatusInternalServerError, "snapshot_failed", "Snapshot %s failed", p.id)
	}
	return p.view(), nil
}

func (s *Server) listSnapshots(_ http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	matches := metadataFilter(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(s.state.snapshots.list(), func(p *snapshot) bool {
		from := q.Get("source_blueprint_id")
		return p.status == snapshotDeleted || p.status == snapshotError || !matches(p.metadata) ||
			q.Get("devbox_id") != "" && p.devboxID != q.Get("devbox_id") ||
			from != "" && (p.blueprintID == nil || *p.blueprintID != from)
	})
	return page(r, "snapshots", all, func(p *snapshot) string { return p.id }, (*snapshot).view)
}

// findSnapshot returns a snapshot, deleted ones too. The server's lock is held.
func (s *Server) findSnapshot(r *http.Request) (*snapshot, error) {
	p, ok := s.state.snapshots.byID[r.PathValue("id")]
	if !ok {
		return nil, notFound("Snapshot %s not found", r.PathValue("id"))
	}
	return p, nil
}

func (s *Server) getSnapshot(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findSnapshot(r)
	if err != nil {
		return nil, err
	}
	return p.view(), nil
}

func (s *Server) updateSnapshot(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[snapshotRequest](r)
	if err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findSnapshot(r)
	if err != nil {
		return nil, err
	}
	if p.status == snapshotDeleted {
		return nil, notFound("Snapshot %s not found", p.id)
	}
	if body.Name != nil {
		p.name = body.Name
	}
	if body.Metadata != nil {
		p.metadata = maps.Clone(body.Metadata)
	}
	if body.CommitMessage != nil {
		p.message = body.CommitMessage
	}
	return p.view(), nil
}

// deleteSnapshot may be repeated.
func (s *Server) deleteSnapshot(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findSnapshot(r)
	if err != nil {
		return nil, err
	}
	if p.status == snapshotInProgress {
		return nil, conflict("Snapshot %s is in progress", p.id)
	}
	p.status = snapshotDeleted
	s.work.Go(func() { _ = os.RemoveAll(filepath.Dir(p.disk)) })
	return struct{}{}, nil
}

func (s *Server) snapshotStatus(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findSnapshot(r)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"status": p.status, "snapshot": nil, "error_message": p.problem}
	if p.status != snapshotDeleted {
		answer["snapshot"] = p.view()
	}
	return answer, nil
}
