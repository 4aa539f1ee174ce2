// Package action holds the types behind an action's payload and an observation's, and the rules of the envelope: ids, kinds,
// digests, limits. The payload travels as the JSON bytes that the client sent; these types read it where it is executed.
//
// Anyone may import it; it imports the contract and sdk/rterr alone.
package action

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The kinds of action. All but process are OpenHands' own.
const (
	KindRun               = "run"
	KindProcess           = "process"
	KindRunIPython        = "run_ipython"
	KindRead              = "read"
	KindWrite             = "write"
	KindEdit              = "edit"
	KindBrowse            = "browse"
	KindBrowseInteractive = "browse_interactive"
)

// MaxPayload is the largest payload of an envelope, in bytes.
const MaxPayload = 4 << 20

// MaxCommand is the largest command of a run action, in bytes.
const MaxCommand = 1 << 20

// maxID is the longest id, in bytes.
const maxID = 128

// plainName reports whether s is 1 to maxID characters of [A-Za-z0-9._:-]. A regular expression with such a bound costs an agent
// a hundred kilobytes.
func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '_' && c != ':' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

// NewID mints an action id: "a-" and 26 random characters of [a-z2-7].
func NewID() string { return "a-" + strings.ToLower(rand.Text()) }

// CheckID refuses an id that agent.v1 Action does not allow.
func CheckID(id string) error {
	if !plainName(id) || id[0] == '.' {
		return rterr.Invalid("", "action.id", "must be 1 to 128 characters of [A-Za-z0-9._:-], not starting with a dot")
	}
	return nil
}

// Digest returns the digest of an action's kind, timeout and payload as agent.v1 Action defines it:
// sha-256 over kind, NUL, timeout in decimal nanoseconds, NUL, payload.
func Digest(kind string, timeout time.Duration, payload []byte) string {
	h := sha256.New()
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write(strconv.AppendInt(nil, int64(timeout), 10))
	h.Write([]byte{0})
	h.Write(payload)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// New returns an envelope with a minted id and its digest. payload is marshalled to JSON.
func New(kind string, payload any, timeout time.Duration) (*agentv1.Action, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return nil, rterr.Invalid("", "action.payload", "%v", err)
	}
	a := &agentv1.Action{Id: NewID(), Kind: kind, Payload: raw, Digest: Digest(kind, timeout, raw)}
	if timeout > 0 {
		a.Timeout = durationOf(timeout)
	}
	return a, nil
}

// Normalize checks an envelope and fills in what may be empty: id and digest. a is changed in place only if it is valid.
// Errors are InvalidArgument naming the field; an unknown kind is not checked here but where it is executed.
func Normalize(a *agentv1.Action) error {
	if a == nil {
		return rterr.Invalid("", "action", "is required")
	}
	if a.GetId() != "" {
		if err := CheckID(a.GetId()); err != nil {
			return err
		}
	}
	if a.GetKind() == "" {
		return rterr.Invalid("", "action.kind", "is required")
	}
	if len(a.GetPayload()) > MaxPayload {
		return rterr.Invalid("", "action.payload", "has %d bytes, at most %d are taken", len(a.GetPayload()), MaxPayload)
	}
	timeout := a.GetTimeout().AsDuration()
	if timeout < 0 {
		return rterr.Invalid("", "action.timeout", "is negative")
	}
	digest := Digest(a.GetKind(), timeout, a.GetPayload())
	if a.GetDigest() != "" && a.GetDigest() != digest {
		return rterr.Invalid("", "action.digest", "does not fit kind, timeout and payload")
	}
	a.Digest = digest
	if a.GetId() == "" {
		a.Id = NewID()
	}
	return nil
}

// UnknownKind is the refusal of a kind by name.
func UnknownKind(kind string, known []string) error {
	err := rterr.New(rterr.UnknownKind, "", "unknown kind of action %q", kind).
		WithField("action.kind").WithRan(rterr.RanNo).With("known", strings.Join(known, ", "))
	if kind == KindRunIPython {
		return err.WithRemedy("start the runtime with the feature jupyter")
	}
	return err
}

// decode reads payload into v. Unknown fields are errors unless lenient.
func decode(payload []byte, v any, lenient bool) error {
	return decodeWith(payload, v, func(d *json.Decoder) {
		if !lenient {
			d.DisallowUnknownFields()
		}
	})
}

func decodeWith(payload []byte, v any, set func(*json.Decoder)) error {
	d := json.NewDecoder(bytes.NewReader(payload))
	set(d)
	if err := d.Decode(v); err != nil {
		return rterr.Invalid("", "action.payload", "%v", err)
	}
	if d.More() {
		return rterr.Invalid("", "action.payload", "has something after the JSON object")
	}
	return nil
}

// invalidField refuses a field of a payload; empty is the payload itself.
func invalidField(field, detail string, args ...any) error {
	if field != "" {
		field = "." + field
	}
	return rterr.Invalid("", "action.payload"+field, detail, args...)
}

// missing is the refusal of a payload without a field.
func missing(field string) error { return invalidField(field, "is required") }
