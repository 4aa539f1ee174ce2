package action

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestDecodeFileActions(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		got  func() (any, error)
		want any
	}{
		{func() (any, error) { return DecodeRead([]byte(`{"path":"a"}`)) }, &Read{Path: "a", End: -1, ImplSource: "default"}},
		{func() (any, error) {
			return DecodeRead([]byte(`{"path":"a","start":null,"end":null,"impl_source":null,"view_range":null,"thought":1}`))
		}, &Read{Path: "a", End: -1, ImplSource: "default"}},
		{func() (any, error) {
			return DecodeRead([]byte(`{"path":"a","start":2,"end":3,"impl_source":"oh_aci","view_range":[1,"x",2.50]}`))
		}, &Read{Path: "a", Start: 2, End: 3, ImplSource: "oh_aci", ViewRange: []any{json.Number("1"), "x", json.Number("2.50")}}},
		{func() (any, error) { return DecodeWrite([]byte(`{"path":"a","content":""}`)) }, &Write{Path: "a", End: -1}},
		{func() (any, error) { return DecodeWrite([]byte(`{"path":"a","content":"b","start":1,"end":0}`)) },
			&Write{Path: "a", Content: "b", Start: 1}},
		{func() (any, error) { return DecodeEdit([]byte(`{"path":"a"}`)) }, &Edit{Path: "a", ImplSource: "oh_aci"}},
		{func() (any, error) {
			return DecodeEdit([]byte(`{"path":"a","command":"insert","new_str":"","old_str":null,"insert_line":"7","content":"x"}`))
		}, &Edit{Path: "a", Command: "insert", NewStr: text(""), InsertLine: "7", ImplSource: "oh_aci"}},
	} {
		got, err := c.got()
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, d)
		}
	}
}

func TestFileActionsNameTheField(t *testing.T) {
	decoders := map[string]func([]byte) error{
		"read":  func(p []byte) error { return second(DecodeRead(p)) },
		"write": func(p []byte) error { return second(DecodeWrite(p)) },
		"edit":  func(p []byte) error { return second(DecodeEdit(p)) },
	}
	for _, c := range []struct{ kind, payload, field string }{
		{"read", `{}`, "action.payload.path"}, {"write", `{"content":"x"}`, "action.payload.path"},
		{"write", `{"path":"x"}`, "action.payload.content"}, {"edit", `{"command":"view"}`, "action.payload.path"},
		{"edit", `{"path":"x","impl_source":"llm_based_edit"}`, "action.payload.impl_source"},
		{"read", `null`, "action.payload"}, {"write", ` null `, "action.payload"}, {"edit", `[]`, "action.payload"},
		{"read", `{"path":"x"} {}`, "action.payload"}, {"read", `{"path":7}`, "action.payload"}, {"edit", `{"path":"x","old_str":1}`, "action.payload"},
	} {
		err := decoders[c.kind]([]byte(c.payload))
		if e := rterr.From(err); e == nil || e.Reason != rterr.InvalidArgument || e.Field != c.field || e.Ran != rterr.RanNo {
			t.Errorf("%s %s: %v", c.kind, c.payload, err)
		}
	}
}

func FuzzDecodeRead(f *testing.F) {
	f.Add([]byte(`{"path":"a","start":1,"end":-1,"view_range":[1,2]}`))
	f.Fuzz(func(t *testing.T, payload []byte) { refusedOrTaken(t, second(DecodeRead(payload))) })
}

func FuzzDecodeWrite(f *testing.F) {
	f.Add([]byte(`{"path":"a","content":"b","start":1,"end":-1}`))
	f.Fuzz(func(t *testing.T, payload []byte) { refusedOrTaken(t, second(DecodeWrite(payload))) })
}

func FuzzDecodeEdit(f *testing.F) {
	f.Add([]byte(`{"path":"a","command":"insert","insert_line":"1","new_str":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) { refusedOrTaken(t, second(DecodeEdit(payload))) })
}

func refusedOrTaken(t *testing.T, err error) {
	t.Helper()
	if err != nil && !rterr.Is(err, rterr.InvalidArgument) {
		t.Error(err)
	}
}
