package workspace

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// tokenVariable has the token, in the environment of git alone.
const tokenVariable = "OPENHANDS_RT_GIT_TOKEN"

// credentialHelper answers git's question for a password from the environment, and keeps nothing.
const credentialHelper = `!f() { test "$1" = get || return 0; printf 'username=%s\npassword=%s\n' "$OPENHANDS_RT_GIT_USER" "$` +
	tokenVariable + `"; }; f`

// source is where a clone comes from.
type source struct {
	url string
	// server is scheme and host, for URLs that a token goes with; else empty.
	server, host string
}

// parseSource checks a URL. Errors do not repeat it: it may have a token in it.
func parseSource(raw string) (source, error) {
	invalid := func(why string) (source, error) { return source{}, rterr.Invalid("", "url", "%s", why) }
	switch {
	case raw == "":
		return invalid("is required")
	case strings.HasPrefix(raw, "-") || strings.ContainsFunc(raw, func(c rune) bool { return unicode.IsControl(c) || c == ' ' }):
		return invalid("must not begin with a dash or hold spaces or control characters")
	case strings.Contains(raw, "::"):
		return invalid("names a transport of its own")
	case !strings.Contains(raw, "://"):
		return source{url: raw}, nil // a path, or the short form of ssh
	}
	u, err := url.Parse(raw)
	if err != nil {
		return invalid("cannot be parsed")
	}
	if _, hasPassword := u.User.Password(); hasPassword || (u.User != nil && (u.Scheme == "http" || u.Scheme == "https")) {
		return invalid("has credentials in it: give them as token and username")
	}
	switch u.Scheme {
	case "http", "https":
		return source{url: raw, server: u.Scheme + "://" + u.Host, host: u.Hostname()}, nil
	case "ssh", "git", "file", "git+ssh", "ssh+git":
		return source{url: raw}, nil
	default:
		return invalid("its scheme is none that git clones from")
	}
}

// name is the folder that git itself would choose.
func (s source) name() (string, error) {
	name := strings.TrimRight(s.url, "/")
	name = strings.TrimSuffix(name, "/.git")
	name = name[strings.LastIndexAny(name, "/:")+1:]
	name = strings.TrimSuffix(name, ".git")
	if name == "" || name == "." || name == ".." {
		return "", rterr.Invalid("", "dir", "is required: the url does not say a name")
	}
	return name, nil
}

// username is what the kinds of servers want beside a token.
func (s source) username() string {
	switch {
	case strings.Contains(s.host, "gitlab"):
		return "oauth2"
	case strings.Contains(s.host, "bitbucket"):
		return "x-token-auth"
	default:
		return "x-access-token"
	}
}

// gitEnv keeps git from asking anyone, and its words the same everywhere.
func gitEnv() map[string]string {
	return map[string]string{"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "GIT_TRACE_REDACT": "1"}
}

// credentials lets git get the token for the one server, from its environment. What else is configured to answer, or to keep what
// was answered, is left out.
func credentials(env map[string]string, from source, username, token string) {
	if token == "" {
		return
	}
	if username == "" {
		username = from.username()
	}
	env[tokenVariable], env["OPENHANDS_RT_GIT_USER"] = token, username
	env["GIT_CONFIG_COUNT"] = "2"
	env["GIT_CONFIG_KEY_0"], env["GIT_CONFIG_VALUE_0"] = "credential.helper", ""
	env["GIT_CONFIG_KEY_1"], env["GIT_CONFIG_VALUE_1"] = "credential."+from.server+".helper", credentialHelper
}

// CloneRepository clones a repository.
func (s *Steps) CloneRepository(ctx context.Context, req *runtimev1.CloneRepositoryRequest) (*runtimev1.CloneRepositoryResponse, error) {
	st, err := s.begin(ctx, req.GetRuntimeId(), req.GetStepId())
	if err != nil {
		return nil, err
	}
	c, err := newClone(req)
	if err != nil {
		return nil, err
	}
	if c.dir, err = st.folder(c.dir); err != nil {
		return nil, err
	}
	err = st.setUp(ctx, runtime.StageWorkspace, workspaceLimit, "cloning into "+c.dir, func(ctx context.Context) error {
		return rterr.Wrap(rterr.Internal, "clone", c.do(ctx, st))
	})
	if err != nil {
		return nil, err
	}
	return &runtimev1.CloneRepositoryResponse{Dir: c.dir, Branch: c.branch}, nil
}

type clone struct {
	from            source
	dir             string
	branch          string
	username, token string
}

func newClone(req *runtimev1.CloneRepositoryRequest) (*clone, error) {
	from, err := parseSource(req.GetUrl())
	if err != nil {
		return nil, err
	}
	c := &clone{from: from, dir: req.GetDir(), branch: req.GetBranch(), username: req.GetUsername(), token: req.GetToken()}
	if c.dir == "" {
		if c.dir, err = from.name(); err != nil {
			return nil, err
		}
	}
	odd := func(c rune) bool { return unicode.IsControl(c) }
	switch {
	case c.token != "" && from.server == "":
		return nil, rterr.Invalid("", "token", "goes with http and https URLs alone")
	case strings.ContainsFunc(c.token, odd) || strings.ContainsFunc(c.username, odd):
		return nil, rterr.Invalid("", "token", "token and username must not hold control characters")
	case strings.HasPrefix(c.branch, "-") || strings.ContainsFunc(c.branch, func(c rune) bool { return odd(c) || c == ' ' }):
		return nil, rterr.Invalid("", "branch", "%q is no name of a branch", c.branch)
	}
	return c, nil
}

// do clones, then checks out.
func (c *clone) do(ctx context.Context, s *step) error {
	env := gitEnv()
	credentials(env, c.from, c.username, c.token)
	d, err := s.process(ctx, "clone", cloneLimit, action.Process{Argv: []string{"git", "clone", "-q", "--", c.from.url, c.dir}, Env: env})
	if err != nil {
		return err
	}
	if d.code() != 0 {
		return c.refused(d)
	}
	checkout := []string{"git", "-C", c.dir, "checkout", "-q"}
	if c.branch == "" {
		c.branch = "openhands-workspace-" + s.eight()
		checkout = append(checkout, "-b", c.branch)
	} else {
		checkout = append(checkout, c.branch, "--")
	}
	// The credentials are for filters that fetch: git-lfs.
	d, err = s.process(ctx, "checkout", cloneLimit, action.Process{Argv: checkout, Env: env})
	if err != nil {
		return err
	}
	if d.code() != 0 {
		return c.refused(d)
	}
	return nil
}

// refused is git's "no" as an error.
func (c *clone) refused(d *done) error {
	said := d.said()
	if c.token != "" { // no server should repeat it, but one might
		said = strings.NewReplacer(c.token, "***", url.QueryEscape(c.token), "***", url.PathEscape(c.token), "***").Replace(said)
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(said, w) {
				return true
			}
		}
		return false
	}
	e := rterr.New(rterr.Provider, "", "git: %s", said)
	switch {
	case has("already exists and is not an empty directory"):
		e = rterr.New(rterr.AlreadyExists, "", "%s is there and not empty", c.dir)
	case has("did not match any file", "unknown revision", "invalid reference", "bad revision"):
		e = rterr.New(rterr.NotFound, "", "the repository has no branch, tag or commit %q", c.branch)
	case has("could not read Username", "could not read Password", "Authentication failed", "error: 403", "Permission denied"):
		e = rterr.New(rterr.PermissionDenied, "", "the server does not let us in: %s", said).
			WithRemedy("give a token that may read this repository")
	case has("not found", "does not exist", "does not appear to be a git repository", "error: 404"):
		e = rterr.New(rterr.NotFound, "", "no such repository: %s", said)
	case has("Could not resolve host", "Failed to connect", "Connection refused", "Connection reset", "timed out", "unable to access"):
		e = rterr.New(rterr.Network, "", "%s", said)
	}
	return e.WithRan(rterr.RanYes).With("exit_code", fmt.Sprint(d.code()))
}

// scriptIn is the path of a file of OpenHands' own in a repository.
func scriptIn(dir, name string) string { return path.Join(dir, ".openhands", name) }
