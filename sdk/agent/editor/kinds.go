package editor

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
)

// clipAll follows a response that would not fit into a message.
const clipAll = clipped + "the full response has been shown to you.</NOTE>"

// Kinds returns the kinds read, write and edit.
func (e *Editor) Kinds() map[string]engine.Kind {
	return map[string]engine.Kind{
		action.KindRead:  kind(e, action.DecodeRead, e.read),
		action.KindWrite: kind(e, action.DecodeWrite, e.write),
		action.KindEdit:  kind(e, action.DecodeEdit, e.edit),
	}
}

// kind is an action of the editor: it waits for its turn.
func kind[P any](e *Editor, decode func([]byte) (P, error), do func(context.Context, P, func() string) ([]byte, error)) engine.Kind {
	return closing{e, func(payload []byte) (engine.Task, error) {
		p, err := decode(payload)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, call *engine.Call) ([]byte, error) {
			give, err := e.take(ctx)
			if err != nil {
				return nil, err
			}
			defer give()
			return do(ctx, p, call.Cwd)
		}, nil
	}}
}

// closing is a kind that closes its editor.
type closing struct {
	*Editor
	engine.KindFunc
}

// edit does an edit action. Refusals are edit observations too.
func (e *Editor) edit(ctx context.Context, a *action.Edit, _ func() string) ([]byte, error) {
	c := command{name: a.Command, path: a.Path, fileText: a.FileText, oldStr: a.OldStr, newStr: a.NewStr}
	var done edited
	var err error
	if c.insertLine, err = insertLine(a.InsertLine); err == nil {
		done, err = e.run(ctx, c)
	}
	content, err := answer(done, err)
	if err != nil {
		return nil, err
	}
	return editObservation(a, content, done), nil
}

// answer is the content of an observation: what was done, or why not. Errors that are no answer are returned.
func answer(done edited, err error) (string, error) {
	if r, ok := errors.AsType[refusal](err); ok {
		return "ERROR:\n" + string(r), nil
	}
	return done.output, err
}

// insertLine reads a number, or a string that should be one.
func insertLine(v any) (*int, error) {
	var text string
	switch v := v.(type) {
	case nil:
		return nil, nil
	case json.Number:
		text = v.String()
	case string:
		text = v
	default:
		text = represented(v)
	}
	n, ok := parseInt(text)
	if !ok {
		return nil, refusal("Invalid insert_line value: '" + text + "'. Expected an integer.")
	}
	return &n, nil
}

// parseRange reads a list of two integers; bad is what it is instead.
func parseRange(v any) (lines *[2]int, bad string) {
	list, ok := v.([]any)
	if v == nil || ok && len(list) == 0 {
		return nil, ""
	}
	bad = represented(v)
	if !ok || len(list) != 2 {
		return nil, bad
	}
	lines = &[2]int{}
	for i, element := range list {
		number, ok := element.(json.Number)
		n, whole := parseInt(number.String())
		if !ok || !whole {
			return nil, bad
		}
		lines[i] = n
	}
	return lines, ""
}
