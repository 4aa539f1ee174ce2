package editor

import (
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/editor/diff"
)

// editObservation is the payload of an edit. Of one that is too large for a message, the difference is left out, and then the
// content cut.
func editObservation(a *action.Edit, content string, done edited) []byte {
	o := action.Observation[action.EditExtras]{
		Message: "I edited the file " + a.Path + ".", Observation: action.KindEdit, Content: content,
		Extras: action.EditExtras{Path: a.Path, OldContent: a.OldStr, NewContent: a.NewStr, ImplSource: action.ImplOHACI},
	}
	if done.before != done.after {
		o.Extras.Diff = diff.Unified(a.Path, done.before, done.after)
	}
	payload := o.JSON()
	if len(payload) > maxObservation {
		o.Extras.Diff = ""
		payload = o.JSON()
	}
	if len(payload) > maxObservation {
		o.Content = clip(content, clipAll)
		payload = o.JSON()
	}
	return payload
}

// readObservation is the payload of a read.
func readObservation(path, source, content string) []byte {
	return action.Observation[action.ReadExtras]{
		Message: "I read the file " + path + ".", Observation: action.KindRead, Content: content,
		Extras: action.ReadExtras{Path: path, ImplSource: source},
	}.JSON()
}

func writeObservation(path string) []byte {
	return action.Observation[action.WriteExtras]{
		Message: "I wrote to the file " + path + ".", Observation: action.KindWrite, Extras: action.WriteExtras{Path: path},
	}.JSON()
}
