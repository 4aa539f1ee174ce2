package walls

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// TestWalls applies every rule to every package of the repository.
func TestWalls(t *testing.T) {
	packages := slices.Concat(load(t, ""), load(t, "agentonly"))
	for _, rule := range Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			for _, p := range packages {
				for _, what := range rule.Broken(p) {
					t.Errorf("%s %s\n→ %s", p.Path, what, rule.Remedy)
				}
			}
		})
	}
}

// TestRoomsAreThere fails when a rule's room has been renamed, for then the rule would hold nothing any more.
func TestRoomsAreThere(t *testing.T) {
	packages := load(t, "")
	for _, owner := range []struct{ room, imports string }{
		{"host/plugin", "github.com/hashicorp/go-plugin"},
		{"host/config", "github.com/knadh/koanf/v2"},
		{"host/store", "github.com/nats-io/nats.go"},
		{"host/lifecycle", ""},
		{"host/recovery/policy", ""},
		{"host/door/api", ""},
		{"sdk/agent/engine", ""},
		{"plugins/local", ""},
	} {
		i := slices.IndexFunc(packages, func(p Package) bool { return p.Path == owner.room })
		switch {
		case i < 0:
			t.Errorf("%s is gone\n→ change the rules in walls.go that name it", owner.room)
		case owner.imports != "" && !slices.Contains(packages[i].Imports, owner.imports):
			t.Errorf("%s does not import %s any more\n→ change the rule in walls.go that gives it to this room", owner.room, owner.imports)
		}
	}
}

// TestRulesFindWhatTheyForbid gives each rule a package that breaks it, and its neighbour that does not.
func TestRulesFindWhatTheyForbid(t *testing.T) {
	for _, test := range []struct {
		rule        string
		bad, honest Package
	}{
		{"host-imports-no-plugin", Package{Path: "host/plugin", Imports: []string{"plugins/local"}},
			Package{Path: "cmd/openhands-rt", Imports: []string{"plugins/local"}}},
		{"host-imports-no-plugin", Package{Path: "host", TestImports: []string{"plugins/local/internal/config"}},
			Package{Path: "host", TestImports: []string{"host/plugin"}}},
		{"plugins-import-no-host", Package{Path: "plugins/local", Imports: []string{"host/config"}},
			Package{Path: "plugins/local", Imports: []string{"sdk/serve"}}},
		{"plugins-import-no-other-plugin", Package{Path: "plugins/local/internal/config", Imports: []string{"plugins/runloop"}},
			Package{Path: "plugins/local", Imports: []string{"plugins/local/internal/config"}}},
		{"sdk-imports-neither-host-nor-plugins", Package{Path: "sdk/serve", Imports: []string{"host/plugin"}},
			Package{Path: "sdk/serve", Imports: []string{"sdk/rterr", "os"}}},
		{"agent-stays-small", Package{Path: "sdk/agent/engine", Deps: []string{"google.golang.org/grpc/codes"}},
			Package{Path: "sdk/serve", Deps: []string{"google.golang.org/grpc"}}},
		{"go-plugin-in-one-host-package", Package{Path: "host/runtime", Imports: []string{"github.com/hashicorp/go-plugin/runner"}},
			Package{Path: "host/plugin", Imports: []string{"github.com/hashicorp/go-plugin"}}},
		{"koanf-in-one-host-package", Package{Path: "host", Imports: []string{"github.com/knadh/koanf/v2"}},
			Package{Path: "host/config", Imports: []string{"github.com/knadh/koanf/v2"}}},
		{"nats-in-one-host-package", Package{Path: "host/runtime", Imports: []string{"github.com/nats-io/nats.go"}},
			Package{Path: "host/store", Imports: []string{"github.com/nats-io/nats.go"}}},
		{"lifecycle-is-pure", Package{Path: "host/lifecycle", Imports: []string{"github.com/hashicorp/go-hclog"}},
			Package{Path: "host/lifecycle", Imports: []string{"time", "encoding/json", "sdk/rterr"}}},
		{"recovery-policy-is-pure", Package{Path: "host/recovery/policy", Imports: []string{"host/recovery"}},
			Package{Path: "host/recovery", Imports: []string{"github.com/failsafe-go/failsafe-go"}}},
		{"doors-see-no-store", Package{Path: "host/door/api", Imports: []string{"host/store"}},
			Package{Path: "host/runtime", Imports: []string{"host/store"}}},
		{"nobody-imports-the-composition-root", Package{Path: "host/door/api", Imports: []string{"host"}},
			Package{Path: "cmd/openhands-rt/internal/cli", Imports: []string{"host"}}},
	} {
		rule := byName(t, test.rule)
		if len(rule.Broken(test.bad)) != 1 {
			t.Errorf("%s does not find what it forbids in %+v", test.rule, test.bad)
		}
		if found := rule.Broken(test.honest); len(found) != 0 {
			t.Errorf("%s accuses %s: %s", test.rule, test.honest.Path, found)
		}
	}
}

func byName(t *testing.T, name string) Rule {
	t.Helper()
	i := slices.IndexFunc(Rules(), func(r Rule) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("there is no rule %s", name)
	}
	return Rules()[i]
}

// load asks the go command for every package of the module. With a tag, cmd/ alone is looked at: the rest has no such variant.
func load(t *testing.T, tag string) []Package {
	t.Helper()
	args := []string{"list", "-e=false", "-json=ImportPath,Imports,TestImports,XTestImports,Deps,Dir"}
	what := "./..."
	if tag != "" {
		args, what = append(args, "-tags", tag), "./cmd/..."
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, what)...)
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	return decode(t, string(out))
}

func decode(t *testing.T, text string) []Package {
	t.Helper()
	var packages []Package
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var p struct {
			ImportPath, Dir                          string
			Imports, TestImports, XTestImports, Deps []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, Package{
			Path: relative(p.ImportPath), Imports: relatives(p.Imports), Deps: relatives(p.Deps),
			TestImports: relatives(slices.Concat(p.TestImports, p.XTestImports)), Dir: p.Dir,
		})
	}
	if len(packages) == 0 {
		t.Fatalf("go list found no package in %s", filepath.Clean(root))
	}
	return packages
}

func relative(path string) string { return strings.TrimPrefix(path, Module+"/") }

func relatives(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = relative(p)
	}
	return out
}
