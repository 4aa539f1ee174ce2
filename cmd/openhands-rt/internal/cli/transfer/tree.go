package transfer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/retry"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// skippedTrailer counts what the other side left out of an archive.
const skippedTrailer = "Files-Skipped"

// UploadTree sends what is in a folder into the folder remote, which must be there, as one tar stream. Links stay links. It
// returns the number of entries that were left out because they are neither files, folders nor links. After a cut all of it is
// sent again.
func (c *Client) UploadTree(ctx context.Context, local, remote string) (skipped int, err error) {
	query := url.Values{"path": {remote}, "archive": {"tar"}}
	return retry.Do(ctx, c.Reconnect, c.Transient, func() (int, error) {
		counted := &counting{c: c}
		n, err := c.sendTree(ctx, local, query, counted)
		if err != nil {
			c.moved(-counted.n)
		}
		return n, c.cut(err)
	})
}

func (c *Client) sendTree(ctx context.Context, local string, query url.Values, counted *counting) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	type packed struct {
		skipped int
		err     error
	}
	done := make(chan packed, 1)
	go func() {
		skipped, err := pack(ctx, w, local, counted)
		w.CloseWithError(err) // nil is io.EOF
		done <- packed{skipped, err}
	}()
	resp, err := c.request(ctx, http.MethodPut, query, r, -1, http.Header{"Content-Type": {"application/x-tar"}})
	if err == nil {
		err = finish(resp)
	}
	r.CloseWithError(io.ErrClosedPipe)
	p := <-done
	if p.err != nil && !errors.Is(p.err, io.ErrClosedPipe) {
		return 0, p.err
	}
	return p.skipped, err
}

// counting counts what has moved in one try.
type counting struct {
	c *Client
	n int64
}

// Write implements io.Writer.
func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	c.c.moved(int64(len(p)))
	return len(p), nil
}

// pack writes a folder as a tar stream.
func pack(ctx context.Context, w io.Writer, dir string, counted io.Writer) (skipped int, err error) {
	tw := tar.NewWriter(w)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	buf := make([]byte, copyBuffer)
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case name == ".":
			return nil
		}
		ok, err := packEntry(tw, root, name, counted, buf)
		if !ok {
			skipped++
		}
		return err
	})
	return skipped, errors.Join(err, tw.Close())
}

// packEntry writes one entry; ok is false for what a tar of ours does not carry.
func packEntry(tw *tar.Writer, root *os.Root, name string, counted io.Writer, buf []byte) (ok bool, err error) {
	info, err := root.Lstat(name)
	if err != nil {
		return true, err
	}
	target := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = root.Readlink(name); err != nil {
			return true, err
		}
	case !info.IsDir() && !info.Mode().IsRegular():
		return false, nil
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return true, err
	}
	// Owners mean nothing on the other side.
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if info.IsDir() {
		h.Name += "/"
	}
	if err := tw.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return true, err
	}
	f, err := root.Open(name)
	if err != nil {
		return true, err
	}
	defer f.Close()
	n, err := io.CopyBuffer(io.MultiWriter(tw, counted), io.LimitReader(plainReader{f}, info.Size()), buf)
	if err == nil && n < info.Size() {
		err = rterr.New(rterr.Integrity, "", "%s became shorter while it was read", name)
	}
	return true, err
}

// plainReader hides a file's WriteTo, which would go around the buffer.
type plainReader struct{ io.Reader }

// DownloadTree fetches what is in the folder remote into the folder local, which is made if it is not there. Nothing is written
// outside it, whatever the archive says. It returns what the other side left out, as a number, empty for none. After a cut all
// of it is fetched again.
func (c *Client) DownloadTree(ctx context.Context, remote, local string) (skipped string, err error) {
	if err := os.MkdirAll(local, 0o755); err != nil {
		return "", err
	}
	query := url.Values{"path": {remote}, "archive": {"tar"}}
	return retry.Do(ctx, c.Reconnect, c.Transient, func() (string, error) {
		counted := &counting{c: c}
		skipped, err := c.fetchTree(ctx, local, query, counted)
		if err != nil {
			c.moved(-counted.n)
		}
		return skipped, c.cut(err)
	})
}

func (c *Client) fetchTree(ctx context.Context, local string, query url.Values, counted *counting) (string, error) {
	root, err := os.OpenRoot(local)
	if err != nil {
		return "", err
	}
	defer root.Close()
	resp, err := c.request(ctx, http.MethodGet, query, nil, 0, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	body := io.TeeReader(resp.Body, io.MultiWriter(sum, counted))
	if err := unpack(root, body); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, body); err != nil { // the padding belongs to what was hashed
		return "", err
	}
	skipped := resp.Trailer.Get(skippedTrailer)
	if skipped == "0" {
		skipped = ""
	}
	return skipped, checkDigest(resp, sum)
}

// unpack writes a tar stream into root and nowhere else.
func unpack(root *os.Root, r io.Reader) error {
	tr := tar.NewReader(r)
	buf := make([]byte, copyBuffer)
	var dirs []*tar.Header
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return finishDirs(root, dirs)
		}
		if err != nil {
			return err
		}
		if h.Name = path.Clean(h.Name); h.Name == "." {
			continue
		}
		if !filepath.IsLocal(h.Name) {
			return rterr.New(rterr.Integrity, "", "the archive has an entry outside its folder: %q", h.Name)
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, h)
		}
		if err := unpackEntry(root, h, tr, buf); err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, r io.Reader, buf []byte) error {
	if parent := path.Dir(h.Name); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(h.Name, 0o700|h.FileInfo().Mode().Perm())
	case tar.TypeReg:
		return unpackFile(root, h, r, buf)
	case tar.TypeSymlink:
		return replace(root, h.Name, func() error { return root.Symlink(h.Linkname, h.Name) })
	case tar.TypeLink:
		return replace(root, h.Name, func() error { return root.Link(path.Clean(h.Linkname), h.Name) })
	default:
		return nil // the sender leaves such entries out and counts them
	}
}

// replace removes what is at name, if it is no folder, and makes it anew.
func replace(root *os.Root, name string, make func() error) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return make()
}

func unpackFile(root *os.Root, h *tar.Header, r io.Reader, buf []byte) error {
	mode := h.FileInfo().Mode().Perm()
	return replace(root, h.Name, func() error {
		f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(plainWriter{f}, r, buf)
		return errors.Join(err, f.Chmod(mode), f.Close(), root.Chtimes(h.Name, h.ModTime, h.ModTime))
	})
}

// plainWriter hides a file's ReadFrom, which would go around the buffer.
type plainWriter struct{ io.Writer }

// finishDirs sets modes and times of folders last, deepest first: a folder without write permission can be filled so.
func finishDirs(root *os.Root, dirs []*tar.Header) error {
	for i := len(dirs) - 1; i >= 0; i-- {
		h := dirs[i]
		if err := errors.Join(root.Chmod(h.Name, h.FileInfo().Mode().Perm()), root.Chtimes(h.Name, h.ModTime, h.ModTime)); err != nil {
			return err
		}
	}
	return nil
}
