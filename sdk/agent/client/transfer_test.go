package client_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const large = 100 << 20

// noise is a source of n bytes that needs no memory; the same seed gives the same bytes at every offset.
type noise struct {
	n     int64
	table *[noiseTable]byte
}

const noiseTable = 1 << 16

func makeNoise(n int64) noise {
	s := noise{n, new([noiseTable]byte)}
	for i := range s.table {
		s.table[i] = byte(i*31 ^ i>>8)
	}
	return s
}

func (s noise) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.n {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.n-off)]
	for done := 0; done < len(p); { // each block is the table, turned by the block's number
		at := off + int64(done)
		block, inside := at/noiseTable, at%noiseTable
		from := (inside + block*131) % noiseTable
		done += copy(p[done:min(len(p), done+int(noiseTable-inside))], s.table[from:])
	}
	var err error
	if off+int64(len(p)) == s.n {
		err = io.EOF
	}
	return len(p), err
}

func (s noise) reader() *io.SectionReader { return io.NewSectionReader(s, 0, s.n) }

func sumOf(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	_, err := io.Copy(h, r)
	mustNot(t, err)
	return hex.EncodeToString(h.Sum(nil))
}

func sumOfFile(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	mustNot(t, err)
	defer f.Close()
	return sumOf(t, f)
}

// noTemps fails if an unfinished upload was left in dir.
func noTemps(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	mustNot(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestUploadAndDownloadOfEverySize(t *testing.T) {
	a := start(t)
	c := a.client(t)
	for _, size := range []int64{0, 1, 4095, 1 << 20, 1<<20 + 1, 4 << 20, 9<<20 + 17} {
		for _, how := range []string{"at", "stream"} {
			t.Run(fmt.Sprintf("%s %d", how, size), func(t *testing.T) {
				want := sumOf(t, makeNoise(size).reader())
				o := client.UploadOptions{Path: "f", Size: size, Mode: 0o640}
				src := io.Reader(makeNoise(size).reader())
				if how == "stream" {
					src = io.MultiReader(src)
				}
				var last int64
				o.Progress = func(done int64) { last = done }
				up, err := c.Upload(t.Context(), o, src)
				mustNot(t, err)
				if up.Bytes != size || up.SHA256 != want || last != size {
					t.Errorf("%+v, progress %d", up, last)
				}
				if got := sumOfFile(t, filepath.Join(a.dir, "f")); got != want {
					t.Error("other content")
				}
				if info, _ := os.Stat(filepath.Join(a.dir, "f")); info.Mode().Perm() != 0o640 {
					t.Error(info.Mode())
				}
				noTemps(t, a.dir)
				h := sha256.New()
				down, err := c.Download(t.Context(), client.DownloadOptions{Path: "f"}, h)
				mustNot(t, err)
				if down.Bytes != size || down.SHA256 != want || hex.EncodeToString(h.Sum(nil)) != want {
					t.Errorf("%+v", down)
				}
			})
		}
	}
}

func TestLargeUploadSurvivesCuts(t *testing.T) {
	for _, how := range []string{"at", "stream"} {
		t.Run(how, func(t *testing.T) {
			a := start(t)
			proxy := newCutter(t, a.path, 30<<20, 1<<20, 40<<20, 100, 5<<20)
			c := dial(t, proxy.address(), credential)
			src := io.Reader(makeNoise(large).reader())
			if how == "stream" {
				src = io.MultiReader(src)
			}
			up, err := c.Upload(t.Context(), client.UploadOptions{Path: "big", Size: large}, src)
			mustNot(t, err)
			if want := sumOf(t, makeNoise(large).reader()); up.SHA256 != want || sumOfFile(t, filepath.Join(a.dir, "big")) != want {
				t.Error("other content")
			}
			if proxy.cuts.Load() < 3 {
				t.Errorf("only %d cuts", proxy.cuts.Load())
			}
			noTemps(t, a.dir)
		})
	}
}

func TestLargeDownloadSurvivesCuts(t *testing.T) {
	a := start(t)
	f, err := os.Create(filepath.Join(a.dir, "big"))
	mustNot(t, err)
	_, err = io.Copy(f, makeNoise(large).reader())
	mustNot(t, errors.Join(err, f.Close()))
	proxy := newCutter(t, a.path, 30<<20, 1<<20, 40<<20, 100)
	c := dial(t, proxy.address(), credential)
	h := sha256.New()
	var done, total int64
	down, err := c.Download(t.Context(), client.DownloadOptions{Path: "big", Progress: func(d, n int64) { done, total = d, n }}, h)
	mustNot(t, err)
	if want := sumOf(t, makeNoise(large).reader()); down.SHA256 != want || hex.EncodeToString(h.Sum(nil)) != want {
		t.Error("other content")
	}
	if done != large || total != large || proxy.cuts.Load() < 3 {
		t.Errorf("progress %d of %d, %d cuts", done, total, proxy.cuts.Load())
	}
}

// failing stops in the middle, as a client that is killed does.
type failing struct {
	io.ReaderAt
	at int64
}

var errStop = errors.New("stop here")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.at {
		return 0, errStop
	}
	return f.ReaderAt.ReadAt(p[:min(int64(len(p)), f.at-off)], off)
}

func (f failing) Read([]byte) (int, error) { return 0, errStop }

func TestUploadGoesOnInAnotherProcess(t *testing.T) {
	const size, half = 20 << 20, 12 << 20
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent restarted %v", restart), func(t *testing.T) {
			dir, state := t.TempDir(), t.TempDir()
			place := func(_ *server.Config, f *files.Config) { f.Workspace, f.StateDir = dir, state }
			a := start(t, place)
			o := client.UploadOptions{Path: "f", ID: "up-1", Size: size}
			_, err := a.client(t).Upload(t.Context(), o, failing{makeNoise(size), half})
			if err == nil {
				t.Fatal("it did not stop")
			}
			if restart {
				a.stop()
				mustNot(t, ended(t, a))
				a = start(t, place)
			}
			sent := int64(-1)
			o.Progress = func(done int64) {
				if sent < 0 {
					sent = done
				}
			}
			up, err := a.client(t).Upload(t.Context(), o, makeNoise(size).reader())
			mustNot(t, err)
			if sent < half/2 {
				t.Errorf("began again at %d", sent)
			}
			if want := sumOf(t, makeNoise(size).reader()); up.SHA256 != want || sumOfFile(t, filepath.Join(dir, "f")) != want {
				t.Error("other content")
			}
			noTemps(t, dir)
			left, _ := os.ReadDir(filepath.Join(state, "uploads"))
			if len(left) != 0 {
				t.Errorf("notes left: %v", left)
			}
		})
	}
}

// corrupting flips a byte of what passes between client and agent, so that hashes do not fit.
type corrupting struct{ src noise }

func (c corrupting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.src.ReadAt(p, off)
	if off <= 5<<20 && off+int64(n) > 5<<20 {
		p[5<<20-off] ^= 1
	}
	return n, err
}

func (c corrupting) Read([]byte) (int, error) { return 0, errStop }

func TestHashMismatchThrowsTheFileAway(t *testing.T) {
	const size, half = 10 << 20, 8 << 20
	a := start(t)
	mustNot(t, os.WriteFile(filepath.Join(a.dir, "f"), []byte("old"), 0o600))
	o := client.UploadOptions{Path: "f", ID: "up-1", Size: size}
	_, err := a.client(t).Upload(t.Context(), o, failing{corrupting{makeNoise(size)}, half}) // other bytes than the second time
	if err == nil {
		t.Fatal("it did not stop")
	}
	_, err = a.client(t).Upload(t.Context(), o, makeNoise(size).reader())
	e := wantReason(t, err, rterr.Integrity)
	if e.Evidence["sha256_expected"] != sumOf(t, makeNoise(size).reader()) || e.Evidence["sha256_arrived"] == "" {
		t.Errorf("%v", e.Evidence)
	}
	if raw, _ := os.ReadFile(filepath.Join(a.dir, "f")); string(raw) != "old" {
		t.Error("the old file was touched")
	}
	noTemps(t, a.dir)
	_, err = a.client(t).Upload(t.Context(), o, makeNoise(size).reader()) // from the start
	mustNot(t, err)
}

func TestDownloadErrors(t *testing.T) {
	a := start(t)
	c := a.client(t)
	mustNot(t, os.WriteFile(filepath.Join(a.dir, "f"), []byte("0123456789"), 0o600))
	_, err := c.Download(t.Context(), client.DownloadOptions{Path: "none"}, io.Discard)
	if e := wantReason(t, err, rterr.NotFound); !strings.HasSuffix(e.Evidence["path"], "none") {
		t.Errorf("%+v", e)
	}
	_, err = c.Download(t.Context(), client.DownloadOptions{Path: "."}, io.Discard)
	wantReason(t, err, rterr.InvalidArgument)
	_, err = c.Download(t.Context(), client.DownloadOptions{Path: "f", Offset: 11}, io.Discard)
	wantReason(t, err, rterr.InvalidArgument)
	var out bytes.Buffer
	got, err := c.Download(t.Context(), client.DownloadOptions{Path: "f", Offset: 7}, &out)
	mustNot(t, err)
	if out.String() != "789" || got.Bytes != 3 {
		t.Errorf("%q %+v", out.String(), got)
	}
	got, err = c.Download(t.Context(), client.DownloadOptions{Path: "f", Offset: 10}, &out)
	mustNot(t, err)
	if got.Bytes != 0 {
		t.Errorf("%+v", got)
	}
	_, err = c.Download(t.Context(), client.DownloadOptions{Path: "f"}, brokenWriter{})
	if !strings.Contains(fmt.Sprint(err), "disk full") {
		t.Error(err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestDownloadNoticesAChangedFile(t *testing.T) {
	a := start(t)
	path := filepath.Join(a.dir, "f")
	write := func(seed byte) {
		raw := bytes.Repeat([]byte{seed}, 4<<20)
		mustNot(t, os.WriteFile(path+".new", raw, 0o600))
		mustNot(t, os.Rename(path+".new", path))
	}
	write('a')
	proxy := newCutter(t, a.path, 1<<20)
	changed := false
	o := client.DownloadOptions{Path: "f", Progress: func(int64, int64) {
		if !changed {
			changed = true
			write('b')
		}
	}}
	_, err := dial(t, proxy.address(), credential).Download(t.Context(), o, io.Discard)
	wantReason(t, err, rterr.Integrity)
}

func TestCutDigestIsNotBelieved(t *testing.T) {
	a := start(t)
	mustNot(t, os.WriteFile(filepath.Join(a.dir, "f"), []byte("true content"), 0o600))
	rt, _ := a.client(t).HTTP()
	for name, change := range map[string]func(h http.Header){
		"other digest": func(h http.Header) { h.Set("Repr-Digest", "sha-256=:AAAA:") },
		"no digest":    func(h http.Header) { h.Del("Repr-Digest") },
	} {
		t.Run(name, func(t *testing.T) {
			liar := newLiar(t, rt, change)
			_, err := dial(t, liar, credential).Download(t.Context(), client.DownloadOptions{Path: "f"}, io.Discard)
			wantReason(t, err, rterr.Integrity)
		})
	}
}

// newLiar forwards to an agent and changes the trailers of its answers.
func newLiar(t *testing.T, rt http.RoundTripper, change func(http.Header)) string {
	t.Helper()
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", "agent"
		resp, err := rt.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.Header().Set("Trailer", "Repr-Digest")
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		change(resp.Trailer)
		for k, v := range resp.Trailer {
			w.Header()[k] = v
		}
	})
}

// tree describes everything under dir, for comparison.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	mustNot(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			line += " " + sumOfFile(t, path)
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			line += " -> " + to
		}
		all = append(all, line)
		return nil
	}))
	slices.Sort(all)
	return all
}

func TestArchivesBothWays(t *testing.T) {
	a := start(t)
	c := a.client(t)
	src := filepath.Join(a.dir, "src")
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		dir := filepath.Join(src, fmt.Sprintf("d%d/e%d", i%7, i%3))
		mustNot(t, os.MkdirAll(dir, 0o755))
		raw := make([]byte, r.IntN(20_000))
		for j := range raw {
			raw[j] = byte(r.Uint32())
		}
		mustNot(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f %d\n é", i)), raw, fs.FileMode(0o600+i%8)))
	}
	mustNot(t, os.MkdirAll(filepath.Join(src, "empty/"+strings.Repeat("deep/", 40)), 0o755))
	mustNot(t, os.Symlink("d1/e1", filepath.Join(src, "link")))
	mustNot(t, os.Symlink("nowhere", filepath.Join(src, "dangling")))
	mustNot(t, os.WriteFile(filepath.Join(src, "script"), []byte("#!/bin/sh\n"), 0o755))
	want := tree(t, src)
	mkfifo(t, filepath.Join(src, "pipe"))

	pr, pw := io.Pipe()
	uploaded := make(chan error, 1)
	go func() { uploaded <- c.UploadArchive(t.Context(), "dst", pr) }()
	skipped, err := c.DownloadArchive(t.Context(), "src", pw)
	_ = pw.CloseWithError(err)
	mustNot(t, err)
	mustNot(t, <-uploaded)
	if skipped != 1 {
		t.Errorf("skipped %d, want the pipe alone", skipped)
	}
	if got := tree(t, filepath.Join(a.dir, "dst")); !slices.Equal(got, want) {
		t.Errorf("got %d entries, want %d", len(got), len(want))
	}
}

func TestUploadArchiveThatIsRefusedLetsGoOfItsSource(t *testing.T) {
	a := start(t)
	pr, pw := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		w := tar.NewWriter(pw)
		if err := w.WriteHeader(&tar.Header{Name: "../x", Typeflag: tar.TypeReg, Size: 1 << 30}); err != nil {
			wrote <- err
			return
		}
		_, err := io.Copy(w, makeNoise(1<<30).reader())
		wrote <- err
	}()
	err := a.client(t).UploadArchive(t.Context(), "dst", pr)
	if rterr.ReasonOf(err) != rterr.InvalidArgument && rterr.ReasonOf(err) != rterr.Network {
		t.Error(err)
	}
	if err := <-wrote; err == nil {
		t.Error("all of it was read")
	}
}
