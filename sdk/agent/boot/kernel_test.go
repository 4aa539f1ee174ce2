package boot

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// noTree is never asked for anything: nothing is started.
type noTree struct{ sandbox.Tree }

func TestTheFeatureMakesTheKernel(t *testing.T) {
	for _, c := range []struct {
		features []string
		want     bool
	}{
		{nil, false}, {[]string{"vscode", "agent_skills"}, false}, {[]string{"agent_skills", "jupyter", "vscode"}, true},
	} {
		cfg := valid()
		cfg.Features = c.features
		k, err := newKernel(cfg, noTree{}, hclog.NewNullLogger())
		if err != nil || (k != nil) != c.want {
			t.Errorf("%v: %v, %v", c.features, k, err)
		}
		if k == nil {
			continue
		}
		if want := filepath.Join(cfg.Home, ".openhands-rt/python/bin/python"); k.Python() != want {
			t.Errorf("the interpreter is %s, not %s", k.Python(), want)
		}
		if err := k.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestPythonIsAPath(t *testing.T) {
	cfg := valid()
	cfg.Python = "python3"
	if err := cfg.Validate(); rterr.From(err).Field != "python" {
		t.Errorf("%v", err)
	}
	cfg.Python = "/usr/bin/python3"
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}
