package conformance

import (
	"errors"
	"fmt"
	"io"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// maxQuoted is how much of an output a failure shows, in bytes.
const maxQuoted = 200

// quote shows bytes for people, cut to what a line can hold.
func quote(b []byte) string {
	if len(b) <= maxQuoted {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q... (%d bytes)", b[:maxQuoted], len(b))
}

// told shows an observation in one line.
func told(o *agentv1.Observation) string {
	if o == nil {
		return "no observation"
	}
	text := o.GetOutcome().String()
	if o.ExitCode != nil {
		text += fmt.Sprintf(", exit code %d", o.GetExitCode())
	} else if o.GetOutcome() == agentv1.Outcome_OUTCOME_COMPLETED {
		text += " without an exit code"
	}
	if o.GetError() != nil {
		text += ", error " + fromDetail(o.GetError()).Error()
	}
	return text
}

func fromDetail(d *agentv1.ErrorDetail) *rterr.Error { return rtwire.FromDetail(d) }

// wireButEOF is wire, with the regular end of a stream left alone.
func wireButEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return wire(err)
}

// wantReason checks that an error has one of the reasons.
func wantReason(err error, want ...rterr.Reason) error {
	if err == nil {
		return fmt.Errorf("want an error with reason %s, got success", reasons(want))
	}
	if !rterr.Is(err, want...) {
		return fmt.Errorf("want reason %s, got %s: %s", reasons(want), rterr.ReasonOf(err), err.Error())
	}
	return nil
}

func reasons(all []rterr.Reason) string {
	var names []string
	for _, r := range all {
		names = append(names, r.String())
	}
	return strings.Join(names, " or ")
}

// wantField checks that an error names the offending field, or something within it.
func wantField(err error, field string) error {
	if got := rterr.From(err).Field; got != field && !strings.HasPrefix(got, field+".") {
		return fmt.Errorf("want the field %q to be named, got %q: %s", field, got, err.Error())
	}
	return nil
}

func short(s backendv1.RuntimeStatus) string {
	return strings.TrimPrefix(s.String(), "RUNTIME_STATUS_")
}

func shortAll(all []backendv1.RuntimeStatus) string {
	var names []string
	for _, s := range all {
		names = append(names, short(s))
	}
	return strings.Join(names, ", ")
}
