package action

import (
	"bytes"
	"encoding/json"
)

// Where the doing of a read or edit action comes from (impl_source).
const (
	ImplDefault = "default"
	ImplOHACI   = "oh_aci"
)

// Read is the payload of a read action (openhands-v0 2.2). Unknown fields are ignored; null is as good as absent.
type Read struct {
	Path string `json:"path"`
	// Start and End are lines from 0 on, the end not included; -1 is the end of the file.
	Start int `json:"start"`
	End   int `json:"end"`
	// ImplSource is ImplDefault, or ImplOHACI for the editor's view.
	ImplSource string `json:"impl_source"`
	// ViewRange is for the editor's view: the first and the last line, from 1 on. Any JSON value but null, which is nil here: what is no
	// such list is told to the agent.
	ViewRange any `json:"view_range"`
}

// Write is the payload of a write action (openhands-v0 2.2). Unknown fields are ignored; null is as good as absent.
type Write struct {
	Path    string `json:"path"`
	Content string `json:"content"`
	// Start and End are the lines that are replaced, from 0 on, the end not included; -1 is the end of the file.
	Start int `json:"start"`
	End   int `json:"end"`
}

// Edit is the payload of an edit action (openhands-v0 2.2). Unknown fields are ignored; null is as good as absent.
type Edit struct {
	Path string `json:"path"`
	// Command is view, create, str_replace, insert or undo_edit; others are told to the agent.
	Command  string  `json:"command"`
	FileText *string `json:"file_text"`
	OldStr   *string `json:"old_str"`
	NewStr   *string `json:"new_str"`
	// InsertLine is a number or a string that should be one; nil if absent.
	InsertLine any `json:"insert_line"`
	// ImplSource must be ImplOHACI: other edits are for a model, not for a sandbox.
	ImplSource string `json:"impl_source"`
}

// DecodeRead reads the payload of a read action. Errors name the field.
func DecodeRead(payload []byte) (*Read, error) {
	var r Read
	wire := struct {
		*Read
		Path       *string `json:"path"`
		End        *int    `json:"end"`
		ImplSource *string `json:"impl_source"`
	}{Read: &r}
	if err := decodeNumbers(payload, &wire); err != nil {
		return nil, err
	}
	if wire.Path == nil {
		return nil, missing("path")
	}
	r.Path, r.End, r.ImplSource = *wire.Path, or(wire.End, -1), or(wire.ImplSource, ImplDefault)
	return &r, nil
}

// DecodeWrite reads the payload of a write action. Errors name the field.
func DecodeWrite(payload []byte) (*Write, error) {
	var w Write
	wire := struct {
		*Write
		Path    *string `json:"path"`
		Content *string `json:"content"`
		End     *int    `json:"end"`
	}{Write: &w}
	if err := decodeNumbers(payload, &wire); err != nil {
		return nil, err
	}
	switch {
	case wire.Path == nil:
		return nil, missing("path")
	case wire.Content == nil:
		return nil, missing("content")
	}
	w.Path, w.Content, w.End = *wire.Path, *wire.Content, or(wire.End, -1)
	return &w, nil
}

// DecodeEdit reads the payload of an edit action. Errors name the field.
func DecodeEdit(payload []byte) (*Edit, error) {
	var e Edit
	wire := struct {
		*Edit
		Path       *string `json:"path"`
		ImplSource *string `json:"impl_source"`
	}{Edit: &e}
	if err := decodeNumbers(payload, &wire); err != nil {
		return nil, err
	}
	if wire.Path == nil {
		return nil, missing("path")
	}
	e.Path, e.ImplSource = *wire.Path, or(wire.ImplSource, ImplOHACI)
	if e.ImplSource != ImplOHACI {
		return nil, invalidField("impl_source", "is %q, only %q is done in a sandbox", e.ImplSource, ImplOHACI)
	}
	return &e, nil
}

// decodeNumbers reads a payload, unknown fields ignored, numbers kept as they were written where any value is taken.
func decodeNumbers(payload []byte, v any) error {
	// A null object would be taken for an empty one.
	if bytes.Equal(bytes.TrimSpace(payload), []byte("null")) {
		return invalidField("", "is null")
	}
	return decodeWith(payload, v, func(d *json.Decoder) { d.UseNumber() })
}

func or[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

// ReadExtras are the extras of a read observation.
type ReadExtras struct {
	// Path is absolute; for the editor's view, as it was given.
	Path       string `json:"path"`
	ImplSource string `json:"impl_source"`
}

// WriteExtras are the extras of a write observation.
type WriteExtras struct {
	// Path is absolute.
	Path string `json:"path"`
}

// EditExtras are the extras of an edit observation.
type EditExtras struct {
	// Path is as it was given.
	Path      string `json:"path"`
	PrevExist bool   `json:"prev_exist"`
	// OldContent and NewContent are the action's old_str and new_str.
	OldContent *string `json:"old_content"`
	NewContent *string `json:"new_content"`
	ImplSource string  `json:"impl_source"`
	// Diff is a unified diff without context; empty if nothing was changed.
	Diff string `json:"diff"`
	// DiffCache is null: OpenHands keeps something there.
	DiffCache *string `json:"_diff_cache"`
}
