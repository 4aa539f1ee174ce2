// Package walls holds the rules of the house that a compiler does not: which room may import which, and what a file may look like.
// Its tests apply them to this repository; nothing imports it.
package walls

import (
	"fmt"
	"slices"
	"strings"
)

// Module is the import path that every package of the repository begins with.
const Module = "github.com/openhands-rt/openhands-rt"

// Package is what the rules need to know of one package. Paths of this module's packages are relative to it ("host/store"), those
// of others as they are.
type Package struct {
	Path string
	// Imports are those of the code itself, TestImports those of its tests.
	Imports, TestImports []string
	// Deps is everything that the code is linked with.
	Deps []string
	// Dir is where it lies.
	Dir string
}

// Rule is one wall.
type Rule struct {
	// Name is that of its sub-test.
	Name string
	// Remedy says what to do where it is broken.
	Remedy string
	// Broken says, for one package, what it may not import; empty for a package that keeps the rule.
	Broken func(Package) []string
}

// Rules returns every wall between packages.
func Rules() []Rule {
	return []Rule{
		{
			Name:   "host-imports-no-plugin",
			Remedy: "the host knows backends by their contract alone: say it in proto/openhands/backend/v1 or put what both need into sdk/",
			Broken: within("host", direct(under("plugins"))),
		},
		{
			Name:   "plugins-import-no-host",
			Remedy: "a plugin is built on sdk/ alone: move what it needs there",
			Broken: within("plugins", direct(under("host", "cmd"))),
		},
		{Name: "plugins-import-no-other-plugin", Remedy: "move what both need into sdk/", Broken: otherPlugins},
		{
			Name:   "sdk-imports-neither-host-nor-plugins",
			Remedy: "the SDK is what others import: turn the dependency round with an interface declared in sdk/",
			Broken: within("sdk", direct(under("host", "plugins", "cmd"))),
		},
		{
			Name:   "agent-stays-small",
			Remedy: "the agent runs in every sandbox: find who brings it in with `go list -deps`, and keep it out of sdk/agent",
			Broken: within("sdk/agent", linked(outside("github.com/hashicorp/go-plugin", "google.golang.org/grpc",
				"github.com/knadh/koanf", "github.com/nats-io"))),
		},
		{
			Name:   "go-plugin-in-one-host-package",
			Remedy: "ask host/plugin for what you need; no go-plugin type leaves it",
			Broken: onlyIn("host/plugin", "host", outside("github.com/hashicorp/go-plugin")),
		},
		{
			Name:   "koanf-in-one-host-package",
			Remedy: "host/config gives out one plain struct; take values from there",
			Broken: onlyIn("host/config", "host", outside("github.com/knadh/koanf")),
		},
		{
			Name:   "nats-in-one-host-package",
			Remedy: "host/store owns what is durable; declare the interface that you need and let the host hand it in",
			Broken: onlyIn("host/store", "host", outside("github.com/nats-io")),
		},
		{
			Name:   "lifecycle-is-pure",
			Remedy: "the state machine knows no clock, disk or wire: return an effect and let the caller do it",
			Broken: within("host/lifecycle", pure("host/lifecycle")),
		},
		{
			Name:   "recovery-policy-is-pure",
			Remedy: "the policy is data: let host/recovery carry it out",
			Broken: within("host/recovery/policy", pure("host/recovery/policy")),
		},
		{
			Name:   "doors-see-no-store",
			Remedy: "a door translates and calls: use the interfaces of host/runtime",
			Broken: within("host/door", direct(under("host/store"))),
		},
		{
			Name:   "nobody-imports-the-composition-root",
			Remedy: "only cmd/openhands-rt puts the host together: declare the interface that you need and let host hand it in",
			Broken: within("host", direct(func(path string) bool { return path == "host" })),
		},
	}
}

type match func(path string) bool

// under matches packages of this module in one of the folders.
func under(folders ...string) match {
	return func(path string) bool {
		return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
	}
}

// outside matches packages of other modules by the beginning of their import path.
func outside(modules ...string) match {
	return func(path string) bool {
		return slices.ContainsFunc(modules, func(m string) bool {
			return path == m || strings.HasPrefix(path, m+"/")
		})
	}
}

// within applies a check to the packages of one folder.
func within(folder string, check func(Package) []string) func(Package) []string {
	inside := under(folder)
	return func(p Package) []string {
		if !inside(p.Path) {
			return nil
		}
		return check(p)
	}
}

// direct finds what code or tests import themselves.
func direct(forbidden match) func(Package) []string {
	return func(p Package) []string {
		return find("imports", slices.Concat(p.Imports, p.TestImports), forbidden)
	}
}

// linked finds what the code is linked with, by whatever way.
func linked(forbidden match) func(Package) []string {
	return func(p Package) []string { return find("is linked with", p.Deps, forbidden) }
}

// pure allows the standard library, sdk/rterr and the package's own folder.
func pure(own string) func(Package) []string {
	allowed := under(own, "sdk/rterr")
	return func(p Package) []string {
		return find("imports", p.Imports, func(path string) bool { return !allowed(path) && !standard(path) })
	}
}

// onlyIn allows one package of a folder to import something.
func onlyIn(owner, folder string, what match) func(Package) []string {
	return within(folder, func(p Package) []string {
		if p.Path == owner {
			return nil
		}
		return find("imports", p.Imports, what)
	})
}

func otherPlugins(p Package) []string {
	rest, inside := strings.CutPrefix(p.Path, "plugins/")
	if !inside {
		return nil
	}
	own, _, _ := strings.Cut(rest, "/")
	mine, all := under("plugins/"+own), under("plugins")
	return direct(func(path string) bool { return all(path) && !mine(path) })(p)
}

// standard tells packages of the standard library, and "C", from others: their first element has no dot, and is no folder of ours.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && !under("cmd", "host", "plugins", "proto", "scripts", "sdk")(path)
}

func find(verb string, paths []string, forbidden match) []string {
	var out []string
	for _, path := range paths {
		if forbidden(path) {
			out = append(out, fmt.Sprintf("%s %s", verb, path))
		}
	}
	return out
}
