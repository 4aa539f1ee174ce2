package workspace

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// origin makes a bare repository with branches main and other, and a tag v1, outside of the workspace.
func (b *box) origin() string {
	b.t.Helper()
	dir := filepath.Join(b.t.TempDir(), "tool.git")
	b.git("", "init", "-q", "--bare", "-b", "main", dir)
	b.write(map[string]string{"seed/README": "one\n"})
	b.git("seed", "init", "-q", "-b", "main")
	b.git("seed", "add", ".")
	b.git("seed", "commit", "-qm", "one")
	b.git("seed", "tag", "v1")
	b.git("seed", "checkout", "-q", "-b", "other")
	b.git("seed", "commit", "-q", "--allow-empty", "-m", "two")
	b.git("seed", "push", "-q", dir, "main", "other", "v1")
	if err := os.RemoveAll(filepath.Join(b.workspace, "seed")); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// gitServer serves the repositories of a folder over HTTP, to whoever shows the password.
type gitServer struct {
	*httptest.Server
	mu    sync.Mutex
	users []string
	// onCommandLine are processes that had the password among their arguments while it was used.
	onCommandLine []string
}

func serveGit(t *testing.T, root, password string) *gitServer {
	t.Helper()
	execPath, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(execPath)), "git-http-backend"), Stderr: os.Stderr,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	}
	if _, err := os.Stat(backend.Path); err != nil {
		t.Skipf("this git has no http backend: %v", err)
	}
	s := &gitServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, given, _ := r.BasicAuth()
		if given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		s.users = append(s.users, user)
		s.onCommandLine = append(s.onCommandLine, commandLinesWith(password)...)
		s.mu.Unlock()
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// commandLinesWith is what ps would show of a secret.
func commandLinesWith(secret string) []string {
	var out []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), secret) {
			out = append(out, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return out
}

func (b *box) clone(req *runtimev1.CloneRepositoryRequest) (*runtimev1.CloneRepositoryResponse, error) {
	req.RuntimeId = "r"
	return b.steps.CloneRepository(b.t.Context(), req)
}

func TestCloneChecksOutABranchOrMakesOne(t *testing.T) {
	b := newBox(t)
	origin := "file://" + b.origin()
	resp, err := b.clone(&runtimev1.CloneRepositoryRequest{Url: origin})
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetDir() != filepath.Join(b.workspace, "tool") || !regexp.MustCompile(`^openhands-workspace-[a-z0-9]{8}$`).MatchString(resp.GetBranch()) {
		t.Errorf("%v", resp)
	}
	if got := b.git("tool", "branch", "--show-current"); got != resp.GetBranch() {
		t.Errorf("on branch %s, told %s", got, resp.GetBranch())
	}
	for branch, dir := range map[string]string{"other": "a/deep/one", "v1": "tagged", "main": "plain"} {
		resp, err := b.clone(&runtimev1.CloneRepositoryRequest{Url: origin, Branch: branch, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := b.git(dir, "rev-parse", "HEAD"); got != b.git("tool", "rev-parse", "HEAD") && branch != "other" || resp.GetBranch() != branch {
			t.Errorf("%s: %s, %v", branch, got, resp)
		}
	}
	if strings.Join(b.stages, ",") != "workspace,workspace,workspace,workspace" {
		t.Errorf("stages %v", b.stages)
	}
}

func TestCloneWithATokenThatNobodySees(t *testing.T) {
	b := newBox(t)
	const token = "ghp_s3cr3tT0ken/with+odd=characters&%"
	server := serveGit(t, filepath.Dir(b.origin()), token)
	// A helper that would keep what works, and one that would answer instead.
	b.git("", "config", "--global", "credential.helper", "store")
	resp, err := b.clone(&runtimev1.CloneRepositoryRequest{Url: server.URL + "/tool.git", Token: token, StepId: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(resp.GetDir(), "README")); got != "one\n" {
		t.Errorf("%q", got)
	}
	if len(server.users) == 0 || server.users[0] != "x-access-token" {
		t.Errorf("users %q", server.users)
	}
	if len(server.onCommandLine) > 0 {
		t.Errorf("the token is in a list of processes: %q", server.onCommandLine)
	}
	if url := b.git("tool", "remote", "get-url", "origin"); url != server.URL+"/tool.git" {
		t.Errorf("origin is %s", url)
	}
	b.noTrace([]string{token}, b.workspace, b.home)

	if _, err := b.clone(&runtimev1.CloneRepositoryRequest{Url: server.URL + "/tool.git", Token: token, Username: "me", Dir: "again"}); err != nil {
		t.Error(err)
	}
	if last := server.users[len(server.users)-1]; last != "me" {
		t.Errorf("user %q", last)
	}
}

func TestARepeatedCloneIsTheSameOne(t *testing.T) {
	b := newBox(t)
	req := &runtimev1.CloneRepositoryRequest{Url: b.origin(), StepId: "once"}
	first, err := b.clone(req)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.clone(req)
	if err != nil || second.GetBranch() != first.GetBranch() || second.GetDir() != first.GetDir() {
		t.Errorf("%v, %v, want %v", second, err, first)
	}
}

func TestAClonesFailureIsToldAndNamesNoToken(t *testing.T) {
	b := newBox(t)
	origin := b.origin()
	const token, wrong = "right-token", "wr0ng-token"
	server := serveGit(t, filepath.Dir(origin), token)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	b.write(map[string]string{"full/file": "x"})
	for name, c := range map[string]struct {
		req    *runtimev1.CloneRepositoryRequest
		reason rterr.Reason
	}{
		"no token":      {&runtimev1.CloneRepositoryRequest{Url: server.URL + "/tool.git"}, rterr.PermissionDenied},
		"a wrong token": {&runtimev1.CloneRepositoryRequest{Url: server.URL + "/tool.git", Token: wrong}, rterr.PermissionDenied},
		"no repository": {&runtimev1.CloneRepositoryRequest{Url: server.URL + "/none.git", Token: token}, rterr.NotFound},
		"no path":       {&runtimev1.CloneRepositoryRequest{Url: "/no/such/repository"}, rterr.NotFound},
		"no branch":     {&runtimev1.CloneRepositoryRequest{Url: origin, Branch: "nope", Dir: "b1"}, rterr.NotFound},
		"a full folder": {&runtimev1.CloneRepositoryRequest{Url: origin, Dir: "full"}, rterr.AlreadyExists},
		"nobody there":  {&runtimev1.CloneRepositoryRequest{Url: closed.URL + "/x.git"}, rterr.Network},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.clone(c.req)
			want(t, err, c.reason, "")
		})
	}
	b.noTrace([]string{token, wrong}, b.workspace, b.home)
	for _, stage := range b.stages {
		if stage != "workspace failed" {
			t.Errorf("stages %v", b.stages)
		}
	}
}

func TestATokenDoesNotFollowARedirect(t *testing.T) {
	b := newBox(t)
	const token = "t0ken"
	var mu sync.Mutex
	var seen []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Header.Get("Authorization"))
		mu.Unlock()
		w.Header().Set("WWW-Authenticate", `Basic realm="other"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusFound)
	}))
	defer first.Close()
	_, err := b.clone(&runtimev1.CloneRepositoryRequest{Url: first.URL + "/x.git", Token: token})
	want(t, err, rterr.PermissionDenied, "")
	mu.Lock()
	defer mu.Unlock()
	if len(seen) == 0 || strings.Join(seen, "") != "" {
		t.Errorf("the other server was sent %q", seen)
	}
}

func TestNewCloneRefuses(t *testing.T) {
	for _, c := range []struct {
		req   *runtimev1.CloneRepositoryRequest
		field string
	}{
		{&runtimev1.CloneRepositoryRequest{}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://s3cret@github.com/a/b"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://u:s3cret@github.com/a/b"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "ssh://u:s3cret@host/a"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://u:s3cret@git hub/a"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://u:s3cret%zz@github.com/a"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "--upload-pack=x"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "ext::sh -c x"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "ext::x"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "gopher://x/y"}, "url"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://github.com/"}, ""},
		{&runtimev1.CloneRepositoryRequest{Url: "https://github.com/.."}, "dir"},
		{&runtimev1.CloneRepositoryRequest{Url: "git@github.com:a/b", Token: "s3cret"}, "token"},
		{&runtimev1.CloneRepositoryRequest{Url: "file:///a/b", Token: "s3cret"}, "token"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://h/a", Token: "s3cret\nhost=evil"}, "token"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://h/a", Token: "s3cret", Username: "a\nb"}, "token"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://h/a", Branch: "--force"}, "branch"},
		{&runtimev1.CloneRepositoryRequest{Url: "https://h/a", Branch: "a b"}, "branch"},
	} {
		_, err := newClone(c.req)
		if c.field == "" {
			continue // a server's own name is no bad name
		}
		want(t, err, rterr.InvalidArgument, c.field)
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error has a secret: %v", err)
		}
	}
}

func TestNamesAndUsersOfSources(t *testing.T) {
	for url, want := range map[string][2]string{
		"https://github.com/acme/tool.git":  {"tool", "x-access-token"},
		"https://github.com/acme/tool/":     {"tool", "x-access-token"},
		"https://gitlab.example.com/a/b/c":  {"c", "oauth2"},
		"https://bitbucket.org/a/b.git":     {"b", "x-token-auth"},
		"git@github.com:acme/tool.git":      {"tool", "x-access-token"},
		"host:tool":                         {"tool", "x-access-token"},
		"/srv/git/tool/.git":                {"tool", "x-access-token"},
		"ssh://git@host:22/acme/tool.git":   {"tool", "x-access-token"},
		"file:///srv/with.dots/my.tool.git": {"my.tool", "x-access-token"},
	} {
		s, err := parseSource(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		name, err := s.name()
		if err != nil || name != want[0] || s.username() != want[1] {
			t.Errorf("%s: %s %s, %v", url, name, s.username(), err)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	f.Add("https://u:p@h/x")
	f.Add("git@h:x")
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := parseSource(raw)
		if err != nil {
			return
		}
		if strings.HasPrefix(s.url, "-") || (s.server != "" && strings.Contains(s.server, "@")) {
			t.Errorf("%q is taken as %+v", raw, s)
		}
		if name, err := s.name(); err == nil && strings.ContainsAny(name, "/\x00") {
			t.Errorf("%q has the name %q", raw, name)
		}
	})
}
