package boot

import (
	"context"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
)

// noBrowser is what OpenHands answers where there is none.
const noBrowser = "Browser functionality is not supported or disabled."

// kinds are the kinds of action beside the engine's own.
func kinds() map[string]engine.Kind {
	return map[string]engine.Kind{
		action.KindBrowse:            answering(action.DecodeBrowse, noBrowser),
		action.KindBrowseInteractive: answering(action.DecodeBrowseInteractive, noBrowser),
	}
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
