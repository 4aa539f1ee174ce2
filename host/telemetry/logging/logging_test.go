package logging

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) {
	// The goroutine that removes old files has no end in that library; there is one for each file.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack.v2.(*Logger).millRun"))
}

func newLogger(t *testing.T, config Config) hclog.Logger {
	t.Helper()
	logger, closer, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	})
	return logger
}

func TestLevelByLongestPrefix(t *testing.T) {
	logger := newLogger(t, Config{
		Level: "warn", Levels: map[string]string{"plugin": "debug", "plugin.local.rpc": "trace", "store": "off"}, Output: io.Discard,
	})
	for name, want := range map[string]hclog.Level{
		"": hclog.Warn, "runtime": hclog.Warn, "plugin": hclog.Debug, "plugins": hclog.Warn, "plugin.runloop": hclog.Debug,
		"plugin.local": hclog.Debug, "plugin.local.rpc": hclog.Trace, "plugin.local.rpc.deep": hclog.Trace, "store.kv": hclog.Off,
	} {
		sub := logger
		for part := range strings.SplitSeq(name, ".") {
			if part != "" {
				sub = sub.Named(part)
			}
		}
		if got := sub.With("k", 1).GetLevel(); got != want {
			t.Errorf("level of %q is %v, want %v", name, got, want)
		}
	}
	// A component's level is its own also when the root's is stricter.
	if !logger.Named("plugin").IsDebug() || logger.IsDebug() {
		t.Error("levels are not independent")
	}
}

func TestFormats(t *testing.T) {
	var out bytes.Buffer
	newLogger(t, Config{Format: FormatJSON, Output: &out}).Named("a").Info("hello", "runtime", "r-1")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["@message"] != "hello" || line["runtime"] != "r-1" || line["@module"] != "a" {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	newLogger(t, Config{Output: &out}).Info("hello", "runtime", "r-1")
	if !strings.Contains(out.String(), "[INFO]  hello: runtime=r-1") {
		t.Errorf("console: %s", &out)
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	for field, config := range map[string]Config{
		"log.level":         {Level: "loud"},
		"log.levels.plugin": {Levels: map[string]string{"plugin": "loud"}},
		"log.levels.a..b":   {Levels: map[string]string{"a..b": "info"}},
		"log.format":        {Format: "xml"},
		"log.file":          {File: "/dev/null/x/log"},
	} {
		if _, _, err := New(config); !rterr.Is(err, rterr.ConfigInvalid) || rterr.From(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, _, err := New(Config{File: filepath.Join(t.TempDir(), "log"), MaxBackups: -1}); rterr.From(err).Field != "log.file" {
		t.Errorf("negative backups: %v", err)
	}
}

func TestFileIsPrivateAndRotated(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logs", "daemon.log")
	logger, closer, err := New(Config{File: file, MaxSizeMB: 1, MaxBackups: 3})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		logger.Info(strings.Repeat("x", 100_000))
	}
	if err := closer.Close(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) < 2 {
		t.Fatalf("%d files, %v: not rotated", len(entries), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestSecretsAreMasked(t *testing.T) {
	for _, asJSON := range []string{FormatJSON, FormatConsole} {
		var out bytes.Buffer
		logger := newLogger(t, Config{Format: asJSON, Output: &out})
		logger.Info("call", "api_key", "S3CRET", "Authorization", "Bearer S3CRET", "agent_credential", `quo"S3CRET"te`,
			"url", "http://h/?token=S3CRET&x=1", "body", `{"password":"S3CRET","user":"me"}`, "tokens", 12, "secret", "", "runtime", "r-1")
		text := out.String()
		if strings.Contains(text, "S3CRET") {
			t.Errorf("%s: a secret came through: %s", asJSON, text)
		}
		for _, kept := range []string{"r-1", "me", "12", "x=1"} {
			if !strings.Contains(text, kept) {
				t.Errorf("%s: %q is gone: %s", asJSON, kept, text)
			}
		}
		if asJSON == FormatJSON && !json.Valid(out.Bytes()) {
			t.Errorf("masking broke the line: %s", text)
		}
	}
}

func FuzzMask(f *testing.F) {
	for _, seed := range []string{"token=abc", `{"token":"a\"b","x":1}`, "token=", `token:"`, `"secret" : "\\`, "authorization: Bearer x y"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		got := mask(line)
		if !bytes.Equal(line, before) {
			t.Error("the line was changed in place")
		}
		if bytes.Count(got, []byte("\n")) != bytes.Count(line, []byte("\n")) {
			t.Error("lines were added or lost")
		}
	})
}

// FuzzMaskingKeepsJSON puts every text under a telling name, at two depths, and wants it gone and the line whole.
func FuzzMaskingKeepsJSON(f *testing.F) {
	for _, seed := range []string{"abc", `a"b`, `a\`, `\"`, "a\nb", "Bearer x", "&<>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		inner, err := json.Marshal(map[string]string{"token": secret, "z": "kept"})
		if err != nil {
			t.Skip()
		}
		line, err := json.Marshal(map[string]any{"body": string(inner), "password": secret, "z": "kept"})
		if err != nil {
			t.Skip()
		}
		var outer, nested map[string]string
		if err := json.Unmarshal(mask(line), &outer); err != nil {
			t.Fatalf("%v: %s", err, mask(line))
		}
		if err := json.Unmarshal([]byte(outer["body"]), &nested); err != nil {
			t.Fatalf("%v: %s", err, outer["body"])
		}
		if secret != "" && (outer["password"] != masked || nested["token"] != masked) || outer["z"] != "kept" || nested["z"] != "kept" {
			t.Errorf("%s", mask(line))
		}
	})
}
