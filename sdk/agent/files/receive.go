package files

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxName is the longest name of a file, as the kernel has it.
const maxName = 255

// CheckName refuses what is not the name of one file: with a "/" or a NUL in it, empty, ".", "..", or longer than 255 bytes.
func CheckName(name string) error {
	switch {
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"), len(name) > maxName, isTemp(name):
		return rterr.Invalid("", "name", "%q is not the name of a file", printable(name))
	}
	return nil
}

// Receive makes the file name in the folder dir of what body has, streaming. dir is made with its parents. The file appears, or
// replaces another, once it is whole; if that fails, nothing of it is left. A link of that name is replaced, not followed. The
// body's own error is in the chain of what is returned.
func (s *Service) Receive(ctx context.Context, dir, name string, body io.Reader) error {
	const op = "receive"
	if err := CheckName(name); err != nil {
		return rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	dir, err := s.space.Clean(dir)
	if err == nil {
		err = s.space.MakeDirs(dir)
	}
	if err != nil {
		return fsError(op, printable(dir), err)
	}
	path := filepath.Join(dir, name)
	p := piece{upload: rand.Text(), final: true}
	u, err := s.uploads.take(ctx, path, p.upload, func() {}) // nobody else knows its id
	if err != nil {
		return fsError(op, path, err)
	}
	defer s.uploads.give(u)
	if err := s.apply(u, p, &contextReader{ctx, body}); err != nil {
		return fsError(op, path, errors.Join(err, s.uploads.drop(u)))
	}
	return nil
}

// contextReader ends with ctx.
type contextReader struct {
	ctx  context.Context
	from io.Reader
}

// Read implements io.Reader.
func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.from.Read(p)
}

// ReceiveZip unpacks the zip archive that body has into the folder dir, which is made with its parents. The archive is first
// streamed to a file without a name, then unpacked beside what is there, and only if all of it is well moved into its place: if it
// fails, nothing of it is left. Files of the same name are replaced, folders merged.
//
// Every entry becomes a plain file or a folder inside dir, links and devices too, with mode 0644 and the time of now. An absolute
// name, "..", encryption, a bad checksum, or more than the bounds of this package allow (entries, size, ratio) refuses the whole.
func (s *Service) ReceiveZip(ctx context.Context, dir string, body io.Reader) error {
	const op = "unzip"
	dir, err := s.space.Clean(dir)
	if err == nil {
		err = s.space.MakeDirs(dir)
	}
	if err != nil {
		return fsError(op, printable(dir), err)
	}
	root, err := s.space.DirRoot(dir)
	if err != nil {
		return fsError(op, dir, err)
	}
	defer root.Close()
	buf, giveBack := s.borrow()
	defer giveBack()
	z := &unzipper{unpacker: unpacker{s: s, root: root, buf: buf[:]}, ctx: ctx.Err}
	return fsError(op, dir, z.run(&contextReader{ctx, body}))
}

// freeName is a name for what is not yet to be seen.
func freeName() string { return tempPrefix + rand.Text() }

// writeAll copies body up to the largest file that is taken.
func (u *unpacker) writeAll(to io.Writer, body io.Reader) (int64, error) {
	limit := u.s.cfg.MaxFile
	n, err := io.CopyBuffer(onlyWriter{to}, io.LimitReader(body, limit+1), u.buf)
	if err == nil && n > limit {
		err = tooLarge(limit)
	}
	return n, err
}

// noFollow are the flags of a file that must be new.
const noFollow = unix.O_NOFOLLOW | unix.O_CLOEXEC
