package action

import (
	"bytes"
	"encoding/json"
)

// KindError is the observation that OpenHands has for an action that was understood and could not be done.
const KindError = "error"

// Observation is an observation payload in OpenHands' shape (openhands-v0 2.1, 2.3); E are the extras of its kind. A run action's is
// RunObservation.
type Observation[E any] struct {
	Message string `json:"message"`
	// Observation is the type: mostly the action's kind.
	Observation string `json:"observation"`
	Content     string `json:"content"`
	Extras      E      `json:"extras"`
	// Success is for run_ipython alone; nil leaves it out.
	Success *bool `json:"success,omitempty"`
}

// JSON returns the payload. Invalid UTF-8 is replaced; <, > and & stay as they are. It panics if E cannot be marshalled.
func (o Observation[E]) JSON() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// ErrorExtras are the extras of an error observation.
type ErrorExtras struct {
	// ErrorID is empty, or one of OpenHands' own.
	ErrorID string `json:"error_id"`
}

// ErrorObservation is the payload that tells an agent why its action could not be done.
func ErrorObservation(text string) []byte {
	return Observation[ErrorExtras]{Message: text, Observation: KindError, Content: text}.JSON()
}
