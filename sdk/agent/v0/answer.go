package v0

import (
	"net/http"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// What the original says where a feature is missing.
const (
	noBrowser = "Browser functionality is not supported or disabled."
	noJupyter = "JupyterRequirement not found. Unable to run IPython action."
)

// Answer returns the answer to an action that DecodeAction gave and that was executed: its observation, or err instead of one.
//
// What a tool has to say is a 200: the observation's payload as it is; for an action that failed, is lost, or was refused for what
// its args hold, an error observation, and for run actions that are hidden or static, of which clients take nothing else, a run
// observation. Kinds that are not run here are answered as the original does without the feature. Any other err is FailureOf's.
func Answer(a *agentv1.Action, obs *agentv1.Observation, err error) Reply {
	switch {
	case err != nil:
		return refusal(a, err)
	case len(obs.GetPayload()) > 0:
		return Reply{Status: http.StatusOK, Body: obs.GetPayload()}
	case obs.GetError() != nil:
		return toolFailure(a, rtwire.FromDetail(obs.GetError()))
	}
	return toolFailure(a, rterr.New(rterr.Internal, "", "%s ended without an answer: %s", a.GetKind(), obs.GetOutcome()))
}

func refusal(a *agentv1.Action, err error) Reply {
	e := rterr.From(err)
	switch {
	case e.Reason == rterr.OutcomeUnknown, e.Reason == rterr.InvalidArgument && strings.HasPrefix(e.Field, "action.payload"):
		return toolFailure(a, e)
	case e.Reason != rterr.UnknownKind:
		return FailureOf(err).Reply()
	case a.GetKind() == action.KindBrowse, a.GetKind() == action.KindBrowseInteractive:
		return ErrorObservation(noBrowser)
	case a.GetKind() == action.KindRunIPython:
		return Internal(noJupyter).Reply()
	}
	return noSuchMethod(a.GetKind()).Reply()
}

// toolFailure is an observation of what went wrong with a tool.
func toolFailure(a *agentv1.Action, e *rterr.Error) Reply {
	text := e.Error()
	if (e.Reason == rterr.OutcomeUnknown || e.Reason == rterr.Unsupported) && e.Remedy != "" {
		text += ". Next: " + e.Remedy
	}
	if a.GetKind() != action.KindRun {
		return ErrorObservation(text)
	}
	run, err := action.DecodeRun(a.GetPayload())
	if err != nil || !run.Hidden && !run.IsStatic {
		return ErrorObservation(text)
	}
	return runFailure(run, text)
}

// runFailure is a run observation of a command whose end is not known.
func runFailure(run *action.Run, text string) Reply {
	command := strings.TrimSpace(run.Command)
	return OK(action.RunObservation{
		Observation: action.KindRun, Content: "ERROR: " + text, Message: "Command `" + command + "` executed with exit code -1.",
		Extras: action.RunExtras{Command: command, Hidden: run.Hidden, Metadata: action.RunMetadata{ExitCode: -1, Pid: -1}},
	})
}

// ErrorObservation is a 200 that holds an error observation.
func ErrorObservation(text string) Reply {
	return OK(errorObservation{Message: text, Observation: "error", Content: text})
}

type errorObservation struct {
	Message     string `json:"message"`
	Observation string `json:"observation"`
	Content     string `json:"content"`
	Extras      struct {
		ErrorID string `json:"error_id"`
	} `json:"extras"`
}
