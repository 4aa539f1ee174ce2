// Package daemon finds the daemon that a command talks to, with its key, and talks to it.
//
// It belongs to the command line; nothing else imports it.
package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The environment that names a daemon, its key, and the folder in which a daemon of this machine says where it is.
const (
	EnvURL     = "OPENHANDS_RT_URL"
	EnvKey     = "OPENHANDS_RT_KEY"
	EnvKeyFile = "OPENHANDS_RT_KEY_FILE"
	EnvDataDir = "OPENHANDS_RT_DATA_DIR"
)

// EndpointFile is what a daemon writes into its data folder once it is ready.
const EndpointFile = "endpoint.json"

const (
	opFind      = "find the daemon"
	remedyServe = "start one with `openhands-rt serve`, or name a running one with --url and --key-file"
)

// Where says where to look. Flags win over the environment, the environment over the endpoint file.
type Where struct {
	// URL, KeyFile and DataDir are the flags; empty means not given.
	URL, KeyFile, DataDir string
	// DefaultDataDir is the folder where neither flag nor environment names one.
	DefaultDataDir string
	// Getenv reads the environment.
	Getenv func(string) string
}

// Address is one daemon and the key to it.
type Address struct {
	// URL of the API and SandboxURL of what sandboxes serve, without a trailing slash. SandboxURL may be empty.
	URL, SandboxURL string
	// Source says, for people, where URL came from; KeySource where the key did.
	Source, KeySource string
	// fromFile: found through the endpoint file, so a restarted daemon is found again.
	fromFile bool
	key      string
}

// endpoint is the file's content.
type endpoint struct {
	URL        string `json:"url"`
	SandboxURL string `json:"sandbox_url"`
	KeyFile    string `json:"key_file"`
}

// Find returns the daemon's address and key. It reads files, it does not connect. Errors are Unavailable when there is no
// daemon here, Unauthenticated without a key, ConfigInvalid for a bad setting; each says what to do.
func Find(w Where) (*Address, error) {
	a := &Address{URL: w.URL, Source: "--url"}
	if a.URL == "" {
		a.URL, a.Source = w.Getenv(EnvURL), EnvURL
	}
	if a.URL == "" {
		return fromEndpoint(w)
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	if err := a.findKey(w, w.keyOfSame(a.URL)); err != nil {
		return nil, err
	}
	return a, nil
}

// keyOfSame returns the key file of the daemon in the data folder if it is the one that url names: a key of this machine is
// never sent to another address.
func (w Where) keyOfSame(url string) string {
	e, err := readEndpoint(w.endpointPath())
	if err != nil || strings.TrimRight(e.URL, "/") != strings.TrimRight(url, "/") {
		return ""
	}
	return e.KeyFile
}

func (w Where) endpointPath() string {
	for _, dir := range []string{w.DataDir, w.Getenv(EnvDataDir), w.DefaultDataDir} {
		if dir != "" {
			return filepath.Join(dir, EndpointFile)
		}
	}
	return EndpointFile
}

func fromEndpoint(w Where) (*Address, error) {
	path := w.endpointPath()
	e, err := readEndpoint(path)
	if err != nil {
		return nil, err
	}
	a := &Address{URL: e.URL, SandboxURL: strings.TrimRight(e.SandboxURL, "/"), Source: path, fromFile: true}
	if err := a.check(); err != nil {
		return nil, err
	}
	if err := a.findKey(w, e.KeyFile); err != nil {
		return nil, err
	}
	return a, nil
}

func readEndpoint(path string) (*endpoint, error) {
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, rterr.New(rterr.Unavailable, opFind, "no daemon runs here: there is no %s", path).
			WithRemedy(remedyServe).WithRan(rterr.RanNo)
	case errors.Is(err, fs.ErrPermission):
		return nil, rterr.New(rterr.PermissionDenied, opFind, "%s cannot be read: it belongs to another user's daemon", path).
			WithRemedy("run the command as the user that runs the daemon, or start your own with `openhands-rt serve --data-dir DIR`")
	case err != nil:
		return nil, rterr.Wrap(rterr.Unavailable, opFind, err)
	}
	return decodeEndpoint(path, raw)
}

func decodeEndpoint(path string, raw []byte) (*endpoint, error) {
	e := &endpoint{}
	if err := json.Unmarshal(raw, e); err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, opFind, "%s is damaged: %v", path, err).
			WithRemedy("restart the daemon: it writes the file anew")
	}
	if e.URL == "" {
		return nil, rterr.New(rterr.ConfigInvalid, opFind, "%s has no url", path).WithField("url").
			WithRemedy("restart the daemon: it writes the file anew")
	}
	return e, nil
}

func (a *Address) check() error {
	u, err := url.Parse(a.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return rterr.New(rterr.ConfigInvalid, opFind, "%q is no http or https URL", a.URL).WithField(a.Source).
			WithRemedy("write it as http://HOST:PORT")
	}
	a.URL = strings.TrimRight(a.URL, "/")
	return nil
}

// findKey takes the key from the flag, the environment, or the file that goes with the endpoint.
func (a *Address) findKey(w Where, endpointKeyFile string) error {
	if w.KeyFile != "" {
		return a.readKey(w.KeyFile, "--key-file")
	}
	if key := w.Getenv(EnvKey); key != "" {
		a.key, a.KeySource = strings.TrimSpace(key), EnvKey
		return nil
	}
	if file := w.Getenv(EnvKeyFile); file != "" {
		return a.readKey(file, EnvKeyFile)
	}
	if endpointKeyFile != "" {
		return a.readKey(endpointKeyFile, EndpointFile)
	}
	return rterr.New(rterr.Unauthenticated, opFind, "there is no key for %s", a.URL).
		WithRemedy("give it with --key-file, " + EnvKeyFile + " or " + EnvKey)
}

func (a *Address) readKey(path, source string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return rterr.New(rterr.Unauthenticated, opFind, "the key cannot be read: %v", err).WithField(source).
			WithRemedy("run the command as the user that runs the daemon, or give another key with --key-file").WithCause(err)
	}
	a.key, a.KeySource = strings.TrimSpace(string(raw)), source+" ("+path+")"
	if a.key == "" {
		return rterr.New(rterr.Unauthenticated, opFind, "the key file %s is empty", path).WithField(source)
	}
	return nil
}
