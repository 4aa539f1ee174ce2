// Package lifecycle is the state machine of a runtime: nine statuses, the events that move between them, and what a move asks
// of whoever runs it. It is pure: no clock, no I/O, no memory of its own. Effects are values, and time limits are data.
//
// The table in table.go is the one source: Next, Path, Dot, Mermaid and Markdown all read it. The package imports the standard
// library and sdk/rterr alone; anyone in the host may import it.
package lifecycle

import (
	"strings"
	"time"
)

// Status is the progress of a runtime. The numbers are those of backend.v1 RuntimeStatus.
type Status uint8

// The statuses. The zero value is no status and is legal nowhere.
const (
	Unspecified Status = iota
	// Stopped: not started, or closed.
	Stopped
	// Building: the environment is being prepared.
	Building
	// Starting: the instance is being started.
	Starting
	// Started: the instance runs; its agent is not ready yet.
	Started
	// SettingUpWorkspace: the workspace is being set up.
	SettingUpWorkspace
	// SettingUpGitHooks: git hooks are being set up.
	SettingUpGitHooks
	// Ready: accepts requests.
	Ready
	// Error: a serious error; Recover or Close leads out.
	Error
	// Disconnected: the connection to the runtime is lost; the sandbox may still run.
	Disconnected

	statusCount
)

// statusFacts is what holds for a status whatever led to it.
type statusFacts struct {
	name string
	// limit is the longest stay; its end is the event Failed. Zero: no limit.
	limit time.Duration
	// admits: actions may start.
	admits bool
	// withdraws: actions that wait for their turn will not get one any more.
	withdraws bool
	meaning   string
}

// factsOf is the table of statuses. Actions start in Ready, and in both set-up statuses: setting up is done by actions, and
// OpenHands' clients set up workspace and git hooks after Ready, through the same door as every other action. While Building,
// Starting, Started and Disconnected, waiting actions keep their place; Stopped and Error withdraw them.
func factsOf(s Status) statusFacts {
	switch s {
	case Stopped:
		return statusFacts{name: "STOPPED", withdraws: true, meaning: "not started, or closed"}
	case Building:
		return statusFacts{name: "BUILDING_RUNTIME", limit: 30 * time.Minute, meaning: "the environment is being prepared"}
	case Starting:
		return statusFacts{name: "STARTING_RUNTIME", limit: 4 * time.Minute, meaning: "the instance is being started"}
	case Started:
		return statusFacts{name: "RUNTIME_STARTED", limit: 2 * time.Minute, meaning: "the instance runs; its agent is not ready yet"}
	case SettingUpWorkspace:
		return statusFacts{name: "SETTING_UP_WORKSPACE", limit: 20 * time.Minute, admits: true, meaning: "the workspace is being set up"}
	case SettingUpGitHooks:
		return statusFacts{name: "SETTING_UP_GIT_HOOKS", limit: 10 * time.Minute, admits: true, meaning: "git hooks are being set up"}
	case Ready:
		return statusFacts{name: "READY", admits: true, meaning: "accepts requests"}
	case Error:
		return statusFacts{name: "ERROR", withdraws: true, meaning: "a serious error"}
	case Disconnected:
		return statusFacts{name: "ERROR_RUNTIME_DISCONNECTED", limit: 10 * time.Minute, meaning: "the connection to the runtime is lost"}
	default:
		return statusFacts{name: "UNSPECIFIED"}
	}
}

// Statuses returns every status, in the order of their numbers.
func Statuses() []Status {
	all := make([]Status, 0, statusCount-1)
	for s := Stopped; s < statusCount; s++ {
		all = append(all, s)
	}
	return all
}

// String returns the status's name, "READY". A number that is no status is "UNSPECIFIED".
func (s Status) String() string { return factsOf(s).name }

// OpenHands returns the status as OpenHands writes it on its wire, "STATUS$READY".
func (s Status) OpenHands() string { return "STATUS$" + s.String() }

// Meaning returns what the status says, for people.
func (s Status) Meaning() string { return factsOf(s).meaning }

// Valid reports whether s is one of the nine.
func (s Status) Valid() bool { return s > Unspecified && s < statusCount }

// AdmitsActions reports whether actions may start: in Ready and while the workspace or git hooks are set up.
func (s Status) AdmitsActions() bool { return factsOf(s).admits }

// Live reports whether the runtime counts as living: every status but Stopped.
func (s Status) Live() bool { return s.Valid() && s != Stopped }

// Limit returns the longest stay in s, after which the event Failed is due; zero for Ready, Stopped and Error, which have none.
func Limit(s Status) time.Duration { return factsOf(s).limit }

// ParseStatus returns the status of a name, with or without "STATUS$", in any case.
func ParseStatus(name string) (Status, bool) {
	name = strings.TrimPrefix(strings.ToUpper(name), "STATUS$")
	for _, s := range Statuses() {
		if s.String() == name {
			return s, true
		}
	}
	return Unspecified, false
}
