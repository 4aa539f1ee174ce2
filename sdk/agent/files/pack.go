package files

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// pack sends a folder as a tar stream: names relative to it, links as links, without owners. What is neither file, folder nor
// link, and what vanishes or cannot be read, is left out and counted in SkippedTrailer.
func (s *Service) pack(w http.ResponseWriter, r *http.Request, name string) error {
	root, err := s.space.DirRoot(name)
	if err != nil {
		return fsError("pack", name, err)
	}
	defer root.Close()
	h := w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Trailer", agent.DigestTrailer+", "+SkippedTrailer)
	w.WriteHeader(http.StatusOK)

	sum := sha256.New()
	p := &packer{s: s, root: root, out: tar.NewWriter(io.MultiWriter(w, sum))}
	buf, giveBack := s.borrow()
	defer giveBack()
	p.buf = buf[:]
	if err := p.run(r.Context()); err != nil {
		s.log.Warn("an archive was cut", "path", name, "error", err)
		panic(http.ErrAbortHandler)
	}
	h.Set(agent.DigestTrailer, digestField(sum))
	h.Set(SkippedTrailer, strconv.Itoa(p.skipped))
	return nil
}

// packer walks a folder, parents before children, holding one folder open at a time.
type packer struct {
	s       *Service
	root    *os.Root
	out     *tar.Writer
	buf     []byte
	todo    []string
	entries int
	skipped int
}

func (p *packer) run(ctx context.Context) error {
	p.todo = append(p.todo, ".")
	for len(p.todo) > 0 {
		dir := p.todo[len(p.todo)-1]
		p.todo = p.todo[:len(p.todo)-1]
		if err := p.folder(ctx, dir); err != nil {
			return err
		}
	}
	return p.out.Close()
}

// folder packs the entries of one folder. One that cannot be opened is skipped, but for the first.
func (p *packer) folder(ctx context.Context, dir string) error {
	f, err := p.root.Open(dir)
	if err != nil && dir != "." {
		p.skipped++
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var failed error
	err = eachName(ctx, f, func(name string) bool {
		if !isTemp(name) {
			failed = p.entry(path.Join(dir, name))
		}
		return failed == nil
	})
	return errors.Join(failed, err)
}

func (p *packer) entry(name string) error {
	p.entries++
	if p.entries > p.s.cfg.MaxEntries {
		return fmt.Errorf("more than %d entries", p.s.cfg.MaxEntries)
	}
	info, err := p.root.Lstat(name)
	if err != nil { // gone since the folder was listed
		p.skipped++
		return nil //nolint:nilerr // counted
	}
	header := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Format: tar.FormatPAX}
	switch info.Mode().Type() {
	case fs.ModeDir:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		p.todo = append(p.todo, name)
		return p.out.WriteHeader(header)
	case fs.ModeSymlink:
		header.Typeflag = tar.TypeSymlink
		if header.Linkname, err = p.root.Readlink(name); err != nil {
			p.skipped++
			return nil //nolint:nilerr // counted
		}
		return p.out.WriteHeader(header)
	case 0:
		return p.file(name, header)
	default:
		p.skipped++
		return nil
	}
}

// file packs a regular file with the size that it has when it is opened.
func (p *packer) file(name string, header *tar.Header) error {
	f, err := p.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		p.skipped++
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		p.skipped++
		return nil
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := p.out.WriteHeader(header); err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{p.out}, io.LimitReader(f, header.Size), p.buf)
	if err == nil && n < header.Size {
		err = fmt.Errorf("%s became shorter while it was packed: %d of %d bytes", name, n, header.Size)
	}
	return err
}

// onlyWriter hides tar.Writer's ReadFrom, which copies through a small buffer of its own.
type onlyWriter struct{ io.Writer }

// tooMany is the refusal of an archive beyond a bound.
func tooMany(entries int) error {
	e := rterr.New(rterr.LimitExceeded, "", "more than %d entries", entries).WithField("archive")
	e.Retryable = false
	return e
}
