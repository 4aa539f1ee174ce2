package workspace

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// changes are the changes of a folder as "A path" lines.
func (b *box) changes(dir string) string {
	b.t.Helper()
	resp, err := b.steps.ListChanges(b.t.Context(), &runtimev1.ListChangesRequest{RuntimeId: "r", Dir: dir})
	if err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	for _, c := range resp.GetChanges() {
		lines = append(lines, strings.TrimPrefix(c.GetStatus().String(), "CHANGE_STATUS_")[:1]+" "+c.GetPath())
	}
	return strings.Join(lines, "\n")
}

func (b *box) wantChanges(dir, want string) {
	b.t.Helper()
	if got := b.changes(dir); got != want {
		b.t.Errorf("changes of %q:\n%s\nwant:\n%s", dir, got, want)
	}
}

// cloned is a repository with origin, on main.
func (b *box) cloned(dir string) {
	b.t.Helper()
	b.git("", "clone", "-q", b.origin(), filepath.Join(b.workspace, dir))
}

func TestChangesOfEveryKindSortedByPath(t *testing.T) {
	b := newBox(t)
	b.cloned("r")
	b.write(map[string]string{
		"r/mod": "1\n", "r/del": "2\n", "r/gone/deep": "3\n", "r/ren": strings.Repeat("same\n", 50), "r/cop": strings.Repeat("copy\n", 50),
		"r/typ": "link me\n", "r/.gitignore": "ignored\n", "r/same": "same\n", "r/touched": "t\n",
	})
	b.git("r", "add", ".")
	b.git("r", "commit", "-qm", "base")
	b.git("r", "push", "-q", "origin", "main")
	b.git("r", "config", "diff.renames", "copies")

	b.write(map[string]string{
		"r/mod": "changed\n", "r/new": "x", "r/ignored": "x", "r/staged": "x", "r/with space": "x", "r/ü 漢": "x", "r/\"q\"\ttab\nline": "x",
		"r/dir/sub/file": "x", "r/cop2": strings.Repeat("copy\n", 50), "r/cop": strings.Repeat("copy\n", 49),
	})
	for _, gone := range []string{"r/del", "r/gone/deep", "r/typ"} {
		if err := os.Remove(filepath.Join(b.workspace, gone)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("mod", filepath.Join(b.workspace, "r/typ")); err != nil {
		t.Fatal(err)
	}
	b.git("r", "mv", "ren", "renamed")
	b.git("r", "add", "staged", "cop2")
	if err := os.Chtimes(filepath.Join(b.workspace, "r/touched"), timeZero(), timeZero()); err != nil {
		t.Fatal(err)
	}
	b.git("r", "commit", "-qm", "committed changes count too", "--", "mod")
	b.wantChanges("r", "A \"q\"\ttab\nline\nM cop\nA cop2\nD del\nA dir/sub/file\nD gone/deep\nM mod\nA new\nD ren\nA renamed\nA staged\nM typ\nA with space\nA ü 漢")
	b.wantChanges("r/dir", "A sub/file")
}

func TestChangesOfAConflict(t *testing.T) {
	b := newBox(t)
	b.git("", "init", "-q", "-b", "main")
	b.write(map[string]string{"f": "1\n", "g": "1\n"})
	b.git("", "add", ".")
	b.git("", "commit", "-qm", "1")
	b.git("", "checkout", "-qb", "side")
	b.write(map[string]string{"f": "side\n"})
	b.git("", "commit", "-qam", "side")
	b.git("", "checkout", "-q", "main")
	b.git("", "update-ref", "refs/remotes/origin/main", "HEAD")
	b.write(map[string]string{"f": "main\n"})
	b.git("", "commit", "-qam", "main")
	merge := b.shell("git merge side")
	if merge.Extras.Metadata.ExitCode == 0 {
		t.Fatal("no conflict")
	}
	// Compared with a commit, git tells a conflict as the change that it is.
	b.wantChanges("", "M f")
}

func TestParseChangesTakesGitsLetters(t *testing.T) {
	got, err := parseChanges([]byte(".\x00U\x00b\x00M\x00b\x00T\x00a\x00\x00b\x00\x00"))
	if err != nil || len(got) != 2 || got[0].GetStatus() != runtimev1.ChangeStatus_CHANGE_STATUS_MODIFIED ||
		got[1].GetStatus() != runtimev1.ChangeStatus_CHANGE_STATUS_UNMERGED {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{".", ".\x00", ".\x00M\x00", ".\x00M\x00a\x00", ".\x00\x00a\x00"} {
		if _, err := parseChanges([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestRepositoriesOneLevelBelowAreToldWithTheirFolder(t *testing.T) {
	b := newBox(t)
	b.write(map[string]string{"top": "x", "sub2/file": "x", ".hidden/file": "x", "plain/deep/file": "x"})
	b.git("", "init", "-q")
	b.cloned("sub")
	b.git("plain/deep", "init", "-q")
	b.write(map[string]string{"sub/new": "x"})
	b.git("", "init", "-q", filepath.Join(b.workspace, "empty dir"))
	// The repository two levels below is one entry of the outer one, as git has it.
	b.wantChanges("", "A .hidden/file\nA plain/deep/\nA sub/new\nA sub2/file\nA top")
	b.write(map[string]string{"empty dir/a": "x"})
	b.wantChanges("", "A .hidden/file\nA empty dir/a\nA plain/deep/\nA sub/new\nA sub2/file\nA top")
	if err := os.RemoveAll(filepath.Join(b.workspace, ".git")); err != nil {
		t.Fatal(err)
	}
	b.wantChanges("", "A empty dir/a\nA sub/new")
	b.wantChanges("plain", "A deep/file")
	b.wantChanges("sub2", "")
}

func TestTheBaseOfChanges(t *testing.T) {
	b := newBox(t)
	b.cloned("r")
	b.write(map[string]string{"r/pushed": "x"})
	commit := func(name string) {
		b.git("r", "add", ".")
		b.git("r", "commit", "-qm", name)
	}
	// 1: the current branch at origin.
	b.git("r", "checkout", "-qb", "topic")
	commit("topic")
	b.git("r", "push", "-q", "origin", "topic")
	b.write(map[string]string{"r/local": "x"})
	b.wantChanges("r", "A local")
	// 2: the merge base with origin's default branch.
	b.git("r", "checkout", "-qb", "unpushed")
	commit("unpushed")
	b.wantChanges("r", "A local\nA pushed")
	b.git("r", "checkout", "-q", "--detach")
	b.wantChanges("r", "A local\nA pushed")
	// 3: origin's default branch, if nothing is in common.
	b.git("r", "checkout", "-q", "--orphan", "unrelated")
	commit("unrelated")
	b.wantChanges("r", "A local\nA pushed")
	b.git("r", "rm", "-q", "README")
	commit("without it")
	b.wantChanges("r", "D README\nA local\nA pushed")
	// 4: nothing.
	b.git("r", "remote", "remove", "origin")
	b.wantChanges("r", "A local\nA pushed")
}

func TestTheNetworkIsAskedOnlyForAnUnknownDefaultBranch(t *testing.T) {
	b := newBox(t)
	b.cloned("r")
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.NotFound(w, r)
	}))
	defer server.Close()
	real := b.git("r", "remote", "get-url", "origin")
	b.git("r", "remote", "set-url", "origin", server.URL+"/x.git")
	b.write(map[string]string{"r/new": "x"})
	b.wantChanges("r", "A new")
	b.git("r", "checkout", "-qb", "local")
	b.wantChanges("r", "A new")
	if n := asked.Load(); n != 0 {
		t.Errorf("the network was asked %d times", n)
	}
	b.git("r", "remote", "set-head", "origin", "--delete")
	b.wantChanges("r", "A README\nA new")
	if asked.Load() == 0 {
		t.Error("the server was not asked")
	}
	b.git("r", "remote", "set-url", "origin", real)
	b.wantChanges("r", "A new")
}

func TestALookChangesNothing(t *testing.T) {
	b := newBox(t)
	b.cloned("r")
	b.write(map[string]string{"r/README": "two\n"})
	index := filepath.Join(b.workspace, "r/.git/index")
	if err := os.Chtimes(filepath.Join(b.workspace, "r/README"), timeZero(), timeZero()); err != nil {
		t.Fatal(err)
	}
	before := read(t, index)
	b.wantChanges("r", "M README")
	if read(t, index) != before || len(b.stages) != 0 {
		t.Errorf("the index was written, or stages were set up: %v", b.stages)
	}
}

func TestAFolderThatIsNotThereAndOneThatGitDoesNotTrust(t *testing.T) {
	b := newBox(t)
	_, err := b.steps.ListChanges(t.Context(), &runtimev1.ListChangesRequest{RuntimeId: "r", Dir: "none"})
	want(t, err, rterr.IllegalState, "")
	b.git("", "init", "-q")
	if err := os.WriteFile(filepath.Join(b.workspace, ".git/config"), []byte("[core\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = b.steps.ListChanges(t.Context(), &runtimev1.ListChangesRequest{RuntimeId: "r"})
	want(t, err, rterr.IllegalState, "")
	if !strings.Contains(err.Error(), "bad config") {
		t.Errorf("git's words are not told: %v", err)
	}
}

func (b *box) diff(dir, path string) (*runtimev1.GetDiffResponse, error) {
	return b.steps.GetDiff(b.t.Context(), &runtimev1.GetDiffRequest{RuntimeId: "r", Dir: dir, Path: path})
}

func TestDiffHasBothSidesByteForByte(t *testing.T) {
	b := newBox(t)
	b.cloned("r")
	b.write(map[string]string{"r/d/deleted": "was\n", "r/crlf": "a\r\nb", "r/-dash name": "x\n", "r/empty": ""})
	b.git("r", "add", ".")
	b.git("r", "commit", "-qm", "base")
	b.git("r", "push", "-q", "origin", "main")
	if err := os.RemoveAll(filepath.Join(b.workspace, "r/d")); err != nil {
		t.Fatal(err)
	}
	b.write(map[string]string{
		"r/README": "  two\n\n", "r/new": "-\n5\nno newline at the end", "r/crlf": "a\r\nc", "r/-dash name": "y\n", "r/empty": "now\n", "r/bin": "\x00\xff",
	})
	for path, want := range map[string][2]string{
		"README": {"one\n", "  two\n\n"}, "new": {"", "-\n5\nno newline at the end"}, "d/deleted": {"was\n", ""}, "crlf": {"a\r\nb", "a\r\nc"},
		"-dash name": {"x\n", "y\n"}, "empty": {"", "now\n"}, "bin": {"", "\x00\uFFFD"}, filepath.Join(b.workspace, "r/README"): {"one\n", "  two\n\n"},
	} {
		got, err := b.diff("r", path)
		if err != nil || got.GetOriginal() != want[0] || got.GetModified() != want[1] {
			t.Errorf("%s: %q, %q, %v", path, got.GetOriginal(), got.GetModified(), err)
		}
	}
	got, err := b.diff("", "r/README")
	if err != nil || got.GetOriginal() != "one\n" {
		t.Errorf("from above: %v, %v", got, err)
	}
}

func TestDiffRefuses(t *testing.T) {
	b := newBox(t)
	b.cloned("r")
	b.write(map[string]string{"r/large": strings.Repeat("x", maxSide+1), "r/just": strings.Repeat("x", maxSide), "outside": "x", "r/dir/f": "x"})
	if got, err := b.diff("r", "just"); err != nil || len(got.GetModified()) != maxSide {
		t.Errorf("%d bytes, %v", len(got.GetModified()), err)
	}
	_, err := b.diff("r", "large")
	want(t, err, rterr.LimitExceeded, "")
	_, err = b.diff("r", "nothing")
	want(t, err, rterr.NotFound, "")
	_, err = b.diff("r", "dir")
	want(t, err, rterr.NotFound, "")
	_, err = b.diff("r", "no/such/folder/f")
	want(t, err, rterr.NotFound, "")
	_, err = b.diff("", "outside")
	want(t, err, rterr.IllegalState, "")
	for _, path := range []string{"", "a\x00b", "dir/"} {
		_, err = b.diff("r", path)
		want(t, err, rterr.InvalidArgument, "path")
	}
}

func TestBranch(t *testing.T) {
	b := newBox(t)
	branch := func(dir string) string {
		t.Helper()
		resp, err := b.steps.GetBranch(t.Context(), &runtimev1.GetBranchRequest{RuntimeId: "r", Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetBranch()
	}
	b.cloned("r")
	if got := branch("r"); got != "main" {
		t.Errorf("%q", got)
	}
	b.git("r", "checkout", "-q", "--detach")
	if got := branch("r") + branch(""); got != "" {
		t.Errorf("detached, and no repository: %q", got)
	}
	b.git("", "init", "-q", "-b", "unborn")
	if got := branch(""); got != "unborn" {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(".\x00M\x00a\x00\x00new\x00\x00sub\x00\x00x\x00\x00"))
	f.Add([]byte("3\nabc-\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		if changes, err := parseChanges(out); err == nil {
			for i := range changes {
				if i > 0 && changes[i-1].GetPath() > changes[i].GetPath() {
					t.Errorf("%q: not sorted", out)
				}
			}
		}
		if d, err := parseDiff(out); err == nil && len(d.GetOriginal())+len(d.GetModified()) > 3*len(out) {
			t.Errorf("%q: more came out than went in", out)
		}
	})
}
