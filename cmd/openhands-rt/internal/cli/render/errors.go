// Package render writes what a command has to say: tables and JSON to its output, errors to its error output.
package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// Error writes err for people: what failed, the field, the evidence, whether the action ran where that is not plain, and the
// remedy behind an arrow. nil writes nothing.
func Error(w io.Writer, err error) {
	e := rterr.From(err)
	if e == nil {
		return
	}
	var b bytes.Buffer
	bare := *e
	bare.Field = ""
	fmt.Fprintf(&b, "openhands-rt: %s\n", oneLine(bare.Error()))
	if e.Field != "" {
		fmt.Fprintf(&b, "  field: %s\n", e.Field)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Evidence)) {
		fmt.Fprintf(&b, "  %s: %s\n", oneLine(key), oneLine(e.Evidence[key]))
	}
	if e.Ran == rterr.RanUnknown {
		b.WriteString("  ran: unknown\n")
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "  retry after: %s\n", e.RetryAfter)
	}
	if e.Remedy != "" {
		fmt.Fprintf(&b, "→ %s\n", oneLine(e.Remedy))
	}
	_, _ = w.Write(b.Bytes()) // an error that cannot be written has no other place to go
}

// ErrorJSON writes err as one line of ErrorDetail JSON. nil writes nothing.
func ErrorJSON(w io.Writer, err error) {
	if err == nil {
		return
	}
	raw, marshalErr := marshal(rtwire.ToDetail(err))
	if marshalErr != nil {
		raw, _ = json.Marshal(map[string]string{"message": err.Error()}) // a map of strings always marshals
	}
	_, _ = w.Write(append(raw, '\n')) // as above
}
