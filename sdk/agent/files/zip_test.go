package files

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// zipOf makes an archive of names and contents.
func zipOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := 0; i < len(pairs); i += 2 {
		f, err := w.Create(pairs[i])
		mustNot(t, err)
		_, err = io.WriteString(f, pairs[i+1])
		mustNot(t, err)
	}
	mustNot(t, w.Close())
	return out.Bytes()
}

// confined is a service whose root has links that lead to its outside, were they followed by name.
func confined(t *testing.T, change ...func(*Config)) (s *Service, root, outside string) {
	root, outside = t.TempDir(), t.TempDir()
	mustNot(t, os.MkdirAll(filepath.Join(root, "workspace"), 0o755))
	mustNot(t, os.Symlink(outside, filepath.Join(root, "workspace/out")))
	mustNot(t, os.Symlink("../../../../../.."+outside, filepath.Join(root, "workspace/up")))
	write(t, filepath.Join(outside, "victim"), "untouched")
	s, _ = service(t, append(change, func(c *Config) { c.Root, c.Workspace = root, "/workspace" })...)
	return s, root, outside
}

func TestConfinedTransfersStayInTheRoot(t *testing.T) {
	s, root, outside := confined(t)
	names, err := s.Names(t.Context(), "")
	if mustNot(t, err); len(names) != 0 { // both links lead nowhere inside
		t.Errorf("%q", names)
	}
	for _, dir := range []string{"/workspace/out", "/workspace/up", "/workspace/out/deeper"} {
		if err := s.Receive(t.Context(), dir, "victim", strings.NewReader("hostile")); err == nil {
			t.Errorf("%s: received", dir)
		}
		if err := s.ReceiveZip(t.Context(), dir, bytes.NewReader(zipOf(t, "victim", "hostile"))); err == nil {
			t.Errorf("%s: unzipped", dir)
		}
		if _, err := s.Zip(dir); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	err = s.ReceiveZip(t.Context(), "/workspace", bytes.NewReader(zipOf(t, "good", "1", "out/victim", "hostile")))
	if err == nil {
		t.Error("unzipped through a link")
	}
	mustNot(t, s.Receive(t.Context(), "/../../etc", "passwd", strings.NewReader("mine")))
	for path, content := range map[string]string{filepath.Join(outside, "victim"): "untouched", filepath.Join(root, "etc/passwd"): "mine"} {
		if raw, err := os.ReadFile(path); err != nil || string(raw) != content {
			t.Errorf("%s: %q %v", path, raw, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(root, "workspace"))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v %v", entries, err)
	}
	entries, err = os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}

func TestConfinedLinksMeanTheSandbox(t *testing.T) {
	s, root, _ := confined(t)
	write(t, filepath.Join(root, "data/file"), "inside")
	mustNot(t, os.Symlink("/data/file", filepath.Join(root, "workspace/absolute")))
	z, err := s.Zip("/workspace")
	mustNot(t, err)
	var out bytes.Buffer
	mustNot(t, z.Send(t.Context(), &out))
	r, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	mustNot(t, err)
	if len(r.File) != 1 || r.File[0].Name != "absolute" || z.Skipped != 2 {
		t.Fatalf("%v, %d skipped", r.File, z.Skipped)
	}
	f, err := r.File[0].Open()
	mustNot(t, err)
	raw, err := io.ReadAll(f)
	if mustNot(t, errors.Join(err, f.Close())); string(raw) != "inside" {
		t.Errorf("%q", raw)
	}
}

func TestBoundsOfTransfers(t *testing.T) {
	s, dir := service(t, func(c *Config) { c.MaxFile, c.MaxEntries = 1000, 3 })
	big := strings.Repeat("x", 1001)
	for name, err := range map[string]error{
		"file":             s.Receive(t.Context(), dir, "big", strings.NewReader(big)),
		"archive":          s.ReceiveZip(t.Context(), dir, strings.NewReader(big)),
		"what it holds":    s.ReceiveZip(t.Context(), dir, bytes.NewReader(zipOf(t, "a", big))),
		"number of files":  s.ReceiveZip(t.Context(), dir, bytes.NewReader(zipOf(t, "a", "", "b", "", "c", "", "d", ""))),
		"size of all":      s.ReceiveZip(t.Context(), dir, bytes.NewReader(zipOf(t, "a", big[:600], "b", big[:600]))),
		"an endless body":  s.Receive(t.Context(), dir, "big", endless{}),
		"an endless body2": s.ReceiveZip(t.Context(), dir, endless{}),
	} {
		if e := rterr.From(err); e == nil || e.Reason != rterr.LimitExceeded || e.Retryable {
			t.Errorf("%s: %v", name, err)
		}
	}
	noTraces(t, dir)
	for i := range 4 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), "")
	}
	z, err := s.Zip(dir)
	mustNot(t, err)
	want(t, z.Send(t.Context(), io.Discard), rterr.LimitExceeded)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func noTraces(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestADirectoryTooLargeForMemoryIsRefused(t *testing.T) {
	s, dir := service(t)
	name := strings.Repeat("n", 60000)
	var names []string
	for i := range maxZipDirectory/60000 + 2 {
		names = append(names, fmt.Sprint(i)+name, "")
	}
	want(t, s.ReceiveZip(t.Context(), dir, bytes.NewReader(zipOf(t, names...))), rterr.LimitExceeded)
	noTraces(t, dir)
}

func TestWhatIsCutLeavesNothing(t *testing.T) {
	s, dir := service(t, func(c *Config) { c.StateDir = t.TempDir() })
	gone := errors.New("gone")
	cut := func() io.Reader { return io.MultiReader(strings.NewReader("half"), iotest.ErrReader(gone)) }
	if err := s.Receive(t.Context(), dir, "x", cut()); !errors.Is(err, gone) {
		t.Error(err)
	}
	if err := s.ReceiveZip(t.Context(), dir, cut()); !errors.Is(err, gone) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{s.Receive(ctx, dir, "x", endless{}), s.ReceiveZip(ctx, dir, bytes.NewReader(zipOf(t, "a", "b")))} {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	noTraces(t, dir)
	noTraces(t, filepath.Join(s.cfg.StateDir, notesDir))
	z, err := s.Zip(dir)
	mustNot(t, err)
	if err := z.Send(ctx, io.Discard); err != nil { // nothing to look at
		t.Error(err)
	}
	write(t, filepath.Join(dir, "x"), "x")
	z, err = s.Zip(dir)
	mustNot(t, err)
	if err := z.Send(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNamesOrder(t *testing.T) {
	s, dir := service(t)
	for _, name := range []string{"b", "B", "a-b/x", "a/x", "A.md", tempPrefix + "x", "\xff"} {
		write(t, filepath.Join(dir, name), "x")
	}
	names, err := s.Names(t.Context(), ".")
	mustNot(t, err)
	if !slices.Equal(names, []string{"a-b/", "a/", "A.md", "B", "b", "\uFFFD"}) {
		t.Errorf("%q", names)
	}
	for path, reason := range map[string]rterr.Reason{"nowhere": rterr.NotFound, "b": rterr.InvalidArgument, "a\x00b": rterr.InvalidArgument} {
		_, err := s.Names(t.Context(), path)
		want(t, err, reason)
	}
}

func TestDisk(t *testing.T) {
	s, _ := service(t)
	if d, err := s.Disk(); err != nil || d.Total == 0 || d.Used > d.Total || d.Free > d.Total {
		t.Errorf("%+v %v", d, err)
	}
}

func FuzzReceiveZip(f *testing.F) {
	f.Add(zipOf(f, "a", "1", "b/c", "2"))
	f.Add(zipOf(f, "../a", "1"))
	f.Add(zipOf(f, "link", "/etc/passwd")[:60])
	f.Fuzz(func(t *testing.T, raw []byte) {
		top := t.TempDir()
		s, err := New(Config{Workspace: top, MaxFile: 1 << 20, MaxEntries: 100})
		mustNot(t, err)
		defer s.Close()
		err = s.ReceiveZip(t.Context(), filepath.Join(top, "in"), bytes.NewReader(raw))
		entries, readErr := os.ReadDir(top)
		if readErr != nil || len(entries) != 1 {
			t.Fatalf("%v %v", entries, readErr)
		}
		if err != nil {
			noTraces(t, filepath.Join(top, "in"))
		}
	})
}
