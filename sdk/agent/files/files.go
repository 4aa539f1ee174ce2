// Package files gives access to the files of a sandbox: bodies and tar archives over HTTP as the head of agent.v1 describes it,
// and the small file RPCs. Bodies are streamed through one buffer, hashed as they pass, and resumable.
//
// Paths are absolute or relative to the workspace. Without a root they mean what they mean to the process; with one, every path
// and every link on the way is resolved inside the root by the kernel (openat2).
//
// sdk/agent/server serves it; anyone may.
package files

import (
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// The bounds of this package.
const (
	// bufferSize is what bodies are copied with.
	bufferSize = 256 << 10
	// maxListed is the number of entries that ListFiles returns, maxListedBytes the size of their names.
	maxListed, maxListedBytes = 10_000, 6 << 20
	// maxUnsized is how much is read of a file that has no size, as those of /proc.
	maxUnsized = 16 << 20
	// maxUploads is how many uploads may be under way.
	maxUploads = 1024
	// maxFinished is how many finished uploads are remembered, to answer a repeated last request.
	maxFinished = 256
	// dirBatch is how many names are read from a folder at a time.
	dirBatch = 512

	defaultMaxFile    = 1 << 40
	defaultMaxEntries = 1_000_000
	defaultUploadTTL  = 24 * time.Hour
)

// SkippedTrailer counts the entries that an archive left out: special files, and what vanished or could not be read meanwhile.
const SkippedTrailer = "Files-Skipped"

// UploadCompleteHeader is "?1" in the answer to a HEAD for an upload that was finished.
const UploadCompleteHeader = "Upload-Complete"

// Config is what the service is told.
type Config struct {
	// Workspace is where relative paths begin; absolute (inside Root, if there is one). Required.
	Workspace string
	// Root confines every path to a folder; empty means the process's own view.
	Root string
	// StateDir keeps the names of unfinished uploads over restarts; empty means in memory only.
	StateDir string
	// MaxFile is the largest file and archive in bytes, zero means 1 TiB. MaxEntries is the largest number of entries of an
	// archive, zero means a million.
	MaxFile    int64
	MaxEntries int
	// UploadTTL is how long an unfinished upload is kept, zero means a day. Swept when the next one begins.
	UploadTTL time.Duration
	// Logger may be nil.
	Logger hclog.Logger
}

// Service is the file side of an agent. All methods may be called from any goroutine.
type Service struct {
	cfg     Config
	log     hclog.Logger
	space   *space.Space
	uploads *uploads
	buffers sync.Pool
}

// New returns a service. Errors name the field; the root, if any, is opened and held until Close.
func New(cfg Config) (*Service, error) {
	const op = "new file service"
	if !filepath.IsAbs(cfg.Workspace) {
		return nil, rterr.Invalid(op, "workspace", "%q is not an absolute path", cfg.Workspace)
	}
	if cfg.MaxFile < 0 || cfg.MaxEntries < 0 || cfg.UploadTTL < 0 {
		return nil, rterr.Invalid(op, "max_file, max_entries, upload_ttl", "must not be negative")
	}
	cfg.MaxFile = orDefault(cfg.MaxFile, defaultMaxFile)
	cfg.MaxEntries = orDefault(cfg.MaxEntries, defaultMaxEntries)
	cfg.UploadTTL = orDefault(cfg.UploadTTL, defaultUploadTTL)
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	sp, err := space.New(cfg.Root, cfg.Workspace)
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, log: cfg.Logger, space: sp}
	s.uploads = newUploads(s)
	s.buffers.New = func() any { return new([bufferSize]byte) }
	return s, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Close releases the root. Requests must have ended. Unfinished uploads stay for a later start.
func (s *Service) Close() error { return s.space.Close() }

// ServeHTTP serves GET, HEAD and PUT of agent.FilesPath. The caller has checked the credential.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	path, err := s.space.Clean(query.Get("path"))
	if err != nil {
		rthttp.Write(w, rterr.Wrap(rterr.InvalidArgument, r.Method+" file", err))
		return
	}
	archive := query.Get("archive")
	switch {
	case archive != "" && archive != "tar":
		err = rterr.Invalid(r.Method+" "+path, "archive", "%q is not known; tar is", archive)
	case r.Method == http.MethodGet && archive != "":
		err = s.pack(w, r, path)
	case r.Method == http.MethodGet:
		err = s.download(w, r, path)
	case r.Method == http.MethodHead && query.Get("upload") != "":
		err = s.uploadOffset(w, path, query.Get("upload"))
	case r.Method == http.MethodHead:
		err = s.head(w, path)
	case r.Method == http.MethodPut && archive != "":
		err = s.unpack(w, r, path)
	case r.Method == http.MethodPut:
		err = s.upload(w, r, path)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		err = rterr.New(rterr.Unsupported, r.Method+" "+path, "files know GET, HEAD and PUT")
	}
	if err != nil {
		rthttp.Write(w, err)
	}
}

func (s *Service) borrow() (*[bufferSize]byte, func()) {
	buf := s.buffers.Get().(*[bufferSize]byte)
	return buf, func() { s.buffers.Put(buf) }
}

// fsError says what a failed file operation means to the caller.
func fsError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*rterr.Error](err); ours {
		return rterr.Wrap(rterr.Internal, op+" "+path, err)
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	detail := err.Error()
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		detail = pe.Err.Error()
	}
	reason := reasonOf(errno)
	if errno == 0 && strings.HasSuffix(detail, "escapes from parent") { // package os has no name for this error of os.Root
		reason = rterr.PermissionDenied
	}
	e := rterr.New(reason, op+" "+path, "%s", detail).With("path", path).WithRan(rterr.RanNo).WithCause(err)
	if errno == syscall.ENOSPC || errno == syscall.EDQUOT {
		e.Retryable = false
		e.Remedy = "free space in the sandbox"
	}
	if e.Reason == rterr.PermissionDenied {
		e.Remedy = "choose a path that the sandbox's user may use"
	}
	return e
}

func reasonOf(errno syscall.Errno) rterr.Reason {
	switch errno {
	case syscall.ENOENT:
		return rterr.NotFound
	case syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EXDEV:
		return rterr.PermissionDenied
	case syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EINVAL, syscall.ENXIO:
		return rterr.InvalidArgument
	case syscall.EEXIST:
		return rterr.AlreadyExists
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EMFILE, syscall.ENFILE:
		return rterr.LimitExceeded
	case syscall.ENOTEMPTY, syscall.EBUSY, syscall.ETXTBSY:
		return rterr.IllegalState
	case syscall.ENOSYS:
		return rterr.Unsupported
	default:
		return rterr.Internal
	}
}

func boolean(op, field, value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, rterr.Invalid(op, field, "%q is neither true nor false", value)
	}
	return b, nil
}
