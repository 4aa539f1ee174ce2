package lifecycle

// Event is what happens to a runtime.
type Event uint8

// The events.
const (
	EventUnspecified Event = iota
	// EventConnect: a runtime is asked for.
	EventConnect
	// EventBuild: the backend has to build the environment first.
	EventBuild
	// EventBuilt: the environment is there.
	EventBuilt
	// EventSandboxRunning: the sandbox runs.
	EventSandboxRunning
	// EventSetUpWorkspace: set-up of the workspace begins.
	EventSetUpWorkspace
	// EventSetUpGitHooks: set-up of git hooks begins.
	EventSetUpGitHooks
	// EventReady: requests are accepted from now on.
	EventReady
	// EventResume: a paused sandbox is to run again.
	EventResume
	// EventRestart: the sandbox is to be started anew.
	EventRestart
	// EventFailed: something serious, or the end of a status's time limit.
	EventFailed
	// EventConnectionLost: the sandbox does not answer.
	EventConnectionLost
	// EventRecover: a new start after an error.
	EventRecover
	// EventAdopted: the sandbox was found again, as it was.
	EventAdopted
	// EventClose: the runtime is to end.
	EventClose

	eventCount
)

// String returns the event's name as in the table of statuses, "sandbox running".
func (e Event) String() string {
	switch e {
	case EventConnect:
		return "connect"
	case EventBuild:
		return "build"
	case EventBuilt:
		return "built"
	case EventSandboxRunning:
		return "sandbox running"
	case EventSetUpWorkspace:
		return "set up workspace"
	case EventSetUpGitHooks:
		return "set up git hooks"
	case EventReady:
		return "ready"
	default:
		return e.laterString()
	}
}

// laterString names the events that come after a runtime was first ready.
func (e Event) laterString() string {
	switch e {
	case EventResume:
		return "resume"
	case EventRestart:
		return "restart"
	case EventFailed:
		return "failed"
	case EventConnectionLost:
		return "connection lost"
	case EventRecover:
		return "recover"
	case EventAdopted:
		return "adopted"
	case EventClose:
		return "close"
	default:
		return "unspecified"
	}
}

// Events returns every event, in the order of their numbers.
func Events() []Event {
	all := make([]Event, 0, eventCount-1)
	for e := EventConnect; e < eventCount; e++ {
		all = append(all, e)
	}
	return all
}

// ParseEvent returns the event of a name as String gives it.
func ParseEvent(name string) (Event, bool) {
	for _, e := range Events() {
		if e.String() == name {
			return e, true
		}
	}
	return EventUnspecified, false
}

// Transition is one row of the table: in any of From, On leads to To.
type Transition struct {
	From []Status
	On   Event
	To   Status
	// Progress marks the rows of the way up, by which a backend reports how far a start has come.
	Progress bool
}

// Table returns the transitions. What is not in it is illegal.
func Table() []Transition {
	return []Transition{
		{From: []Status{Stopped}, On: EventConnect, To: Starting, Progress: true},
		{From: []Status{Starting}, On: EventBuild, To: Building, Progress: true},
		{From: []Status{Building}, On: EventBuilt, To: Starting, Progress: true},
		{From: []Status{Starting}, On: EventSandboxRunning, To: Started, Progress: true},
		{From: []Status{Started}, On: EventSetUpWorkspace, To: SettingUpWorkspace, Progress: true},
		{From: []Status{SettingUpWorkspace}, On: EventSetUpGitHooks, To: SettingUpGitHooks, Progress: true},
		{From: []Status{Started, SettingUpWorkspace, SettingUpGitHooks}, On: EventReady, To: Ready, Progress: true},
		// OpenHands' clients set up after READY.
		{From: []Status{Ready}, On: EventSetUpWorkspace, To: SettingUpWorkspace},
		{From: []Status{Ready}, On: EventSetUpGitHooks, To: SettingUpGitHooks},
		{From: []Status{Ready}, On: EventResume, To: Starting},
		{From: []Status{Ready}, On: EventRestart, To: Starting},
		{From: allBut(Stopped), On: EventFailed, To: Error},
		{From: allBut(Stopped, Error), On: EventConnectionLost, To: Disconnected},
		{From: []Status{Error, Disconnected}, On: EventRecover, To: Starting},
		{From: []Status{Disconnected}, On: EventAdopted, To: Ready},
		{From: allBut(), On: EventClose, To: Stopped},
	}
}

func allBut(excluded ...Status) []Status {
	out := make([]Status, 0, statusCount)
	for _, s := range Statuses() {
		if !contains(excluded, s) {
			out = append(out, s)
		}
	}
	return out
}

func contains(set []Status, s Status) bool {
	for _, have := range set {
		if have == s {
			return true
		}
	}
	return false
}

// target returns where on leads from from.
func target(from Status, on Event) (Status, bool) {
	for _, t := range Table() {
		if t.On == on && contains(t.From, from) {
			return t.To, true
		}
	}
	return Unspecified, false
}

// Allowed returns the events that are legal in s, in the order of their numbers.
func Allowed(s Status) []Event {
	var out []Event
	for _, e := range Events() {
		if _, ok := target(s, e); ok {
			out = append(out, e)
		}
	}
	return out
}
