package config

import (
	"encoding/hex"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// check notes everything that is wrong with c.
func (c *Config) check(f *findings) {
	c.checkPlaces(f)
	c.checkWeb(f)
	c.checkBackends(f)
	c.checkNumbers(f)
	c.checkLog(f)
	c.Recovery.check(f)
}

func (c *Config) checkPlaces(f *findings) {
	if c.DataDir == "" {
		f.add("data_dir", "set data_dir, or HOME", "has no default here: neither HOME nor XDG_STATE_HOME is set")
	}
	for path, addr := range map[string]string{"listen": c.Listen, "sandbox_listen": c.SandboxListen} {
		if !isHostPort(addr, true) {
			f.add(path, "give HOST:PORT, as 127.0.0.1:7799", "%q is no address to listen on", addr)
		}
	}
	if c.Listen == c.SandboxListen && !strings.HasSuffix(c.Listen, ":0") {
		f.add("sandbox_listen", "give it another port", "is the same as listen, but what sandboxes serve must not share the API's origin")
	}
	if c.Store.URL != "" {
		if u, err := url.Parse(c.Store.URL); err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			f.add("store.url", "give nats://HOST:PORT, or leave it empty for the embedded store", "is no URL of a NATS server")
		}
	}
}

func isHostPort(addr string, zero bool) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && (n > 0 || zero)
}

var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9._\[\]:-]+$`)

func (c *Config) checkWeb(f *findings) {
	if u, err := url.Parse(c.SandboxURL); c.SandboxURL != "" &&
		(err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.User != nil || u.Path != "") {
		f.add("sandbox_url", `give scheme and host alone, as "https://sandboxes.example.org"`, "%q is no such URL", c.SandboxURL)
	}
	for _, host := range c.AllowedHosts {
		if !hostName.MatchString(host) {
			f.add("allowed_hosts", `give names, as "rt.example.org" or "*.example.org"`, "%q is no host name", host)
		}
	}
	for _, origin := range c.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.Path != "" || u.RawQuery != "" || u.User != nil {
			f.add("allowed_origins", `give scheme and host alone, as "https://app.example.org"`, "%q is no origin", origin)
		}
	}
}

var (
	backendName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func (c *Config) checkBackends(f *findings) {
	for name, b := range c.Backends {
		path := join("backends", name)
		if !backendName.MatchString(name) {
			f.add(path, "use 1 to 63 of a-z, 0-9, - and _, with a letter or digit at both ends", "%q cannot be a backend's name", name)
		}
		b.check(path, f)
	}
	names := strings.Join(c.BackendNames(), ", ")
	if c.DefaultBackend == "" {
		f.add("default_backend", "name one of "+names, "is needed where there are several backends and none is called local")
	} else if _, ok := c.Backends[c.DefaultBackend]; !ok {
		f.add("default_backend", "name one of "+names, "%q is not among the backends", c.DefaultBackend)
	}
	for _, name := range c.FallbackBackends {
		if _, ok := c.Backends[name]; !ok {
			f.add("fallback_backends", "name some of "+names, "%q is not among the backends", name)
		}
	}
}

func (b Backend) check(path string, f *findings) {
	given := 0
	for _, set := range []bool{b.Plugin != "", len(b.Command) > 0, b.Address != ""} {
		if set {
			given++
		}
	}
	if given != 1 {
		f.add(path, "give exactly one of plugin, command and address", "has %d of plugin, command and address", given)
	}
	if b.Plugin != "" && !backendName.MatchString(b.Plugin) {
		f.add(join(path, "plugin"), "give a short name, as local; for a path use command", "%q is no short name of a plugin", b.Plugin)
	}
	if len(b.Command) > 0 && b.Command[0] == "" {
		f.add(join(path, "command"), "give the path of the binary first", "begins with an empty path")
	}
	if socket, ok := strings.CutPrefix(b.Address, "unix://"); b.Address != "" && !isHostPort(b.Address, false) && (!ok || !filepath.IsAbs(socket)) {
		f.add(join(path, "address"), "give unix:///path/to.sock or HOST:PORT", "%q is no address of a plugin", b.Address)
	}
	if sum, err := hex.DecodeString(b.SHA256); b.SHA256 != "" && (err != nil || len(sum) != 32) {
		f.add(join(path, "sha256"), "give the 64 digits that sha256sum prints", "is no SHA-256")
	}
	if b.SHA256 != "" && b.Address != "" {
		f.add(join(path, "sha256"), "remove it", "says nothing about a plugin that is not started from here")
	}
	b.checkEnv(path, f)
	for name, credential := range b.Credentials {
		credential.check(join(join(path, "credentials"), name), f)
	}
}

func (b Backend) checkEnv(path string, f *findings) {
	for name := range b.Env {
		if !variableName.MatchString(name) {
			f.add(join(join(path, "env"), name), "use letters, digits and _", "cannot be a variable's name")
		}
	}
	for _, name := range b.EnvAllow {
		if !variableName.MatchString(name) {
			f.add(join(path, "env_allow"), "use letters, digits and _", "%q cannot be a variable's name", name)
		}
	}
}

func (r Credential) check(path string, f *findings) {
	given := 0
	for _, set := range []bool{r.Env != "", r.File != "", len(r.Command) > 0} {
		if set {
			given++
		}
	}
	if given != 1 {
		f.add(path, "give exactly one of env, file and command", "has %d of env, file and command", given)
	}
	if r.Env != "" && !variableName.MatchString(r.Env) {
		// Somebody may have put the secret itself there: it is not repeated.
		f.add(join(path, "env"), "name the variable, do not put the secret here", "cannot be a variable's name")
	}
}
