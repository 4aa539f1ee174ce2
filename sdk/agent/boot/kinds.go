package boot

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/editor"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
)

// noBrowser is what OpenHands answers where there is none.
const noBrowser = "Browser functionality is not supported or disabled."

// editorDir is the folder of the editor's history in the state directory.
const editorDir = "editor"

// kinds are the kinds of action beside the engine's own. They are closed by the engine.
func kinds(cfg Config, log hclog.Logger) (map[string]engine.Kind, error) {
	at, err := space.New(cfg.Root, cfg.Workspace)
	if err != nil {
		return nil, err
	}
	e, err := editor.New(editor.Config{Space: at, Workspace: cfg.Workspace, StateDir: filepath.Join(cfg.StateDir, editorDir),
		Logger: log.Named("editor")})
	if err != nil {
		return nil, errors.Join(err, at.Close())
	}
	all := e.Kinds()
	all[action.KindBrowse] = answering(action.DecodeBrowse, noBrowser)
	all[action.KindBrowseInteractive] = answering(action.DecodeBrowseInteractive, noBrowser)
	return all, nil
}

// answering is a kind that is understood and always gets the same error observation.
func answering[P any](decode func([]byte) (P, error), text string) engine.Kind {
	return engine.KindFunc(func(payload []byte) (engine.Task, error) {
		if _, err := decode(payload); err != nil {
			return nil, err
		}
		return func(context.Context, *engine.Call) ([]byte, error) { return action.ErrorObservation(text), nil }, nil
	})
}
