package service

import (
	"bytes"
	"encoding/json"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// handleSchema is the number of opaque's schema; maxOpaque its largest size in bytes.
const (
	handleSchema = 1
	maxOpaque    = 64 << 10
)

// opaque is what a handle holds: a process by all that names it for ever, and where its agent listens.
type opaque struct {
	Socket    string `json:"socket"`
	Nonce     string `json:"nonce"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"`
	BootID    string `json:"boot_id"`
}

func handleOf(m folder.Meta) (*backendv1.Handle, error) {
	raw, err := json.Marshal(opaque{Socket: m.Socket, Nonce: m.Nonce, PID: m.PID, StartTime: m.StartTime, BootID: m.BootID})
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "encode handle", err)
	}
	return &backendv1.Handle{Schema: handleSchema, Backend: m.Backend, SandboxId: m.SandboxID, Opaque: raw}, nil
}

// decodeHandle checks a handle; it does not look whether there is such a sandbox.
func decodeHandle(h *backendv1.Handle) (opaque, error) {
	const op = "decode handle"
	var o opaque
	if h == nil {
		return o, rterr.Invalid(op, "handle", "is required")
	}
	if h.GetSchema() != handleSchema {
		return o, rterr.New(rterr.Integrity, op, "the handle has schema %d, known is %d", h.GetSchema(), handleSchema)
	}
	if err := folder.CheckID(h.GetSandboxId()); err != nil {
		return o, err
	}
	if len(h.GetOpaque()) > maxOpaque {
		return o, rterr.New(rterr.Integrity, op, "the handle has %d bytes", len(h.GetOpaque()))
	}
	d := json.NewDecoder(bytes.NewReader(h.GetOpaque()))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil || o.Nonce == "" {
		return opaque{}, rterr.New(rterr.Integrity, op, "the handle cannot be read").WithCause(err)
	}
	return o, nil
}
