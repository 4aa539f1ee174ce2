package boot

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// Ready is the line that an agent writes to its ready descriptor: who it is, or why it could not start.
type Ready struct {
	PID int `json:"pid"`
	// StartedAt is what Info says; StartTicks the start time of the process since boot, of /proc/PID/stat.
	StartedAt  time.Time `json:"started_at"`
	StartTicks uint64    `json:"start_ticks,omitempty"`
	// Address is where it answers, as sdk/agent/client takes it.
	Address string `json:"address,omitempty"`
	// V0Address is the URL of the direct V0 listener, if there is one.
	V0Address string `json:"v0_address,omitempty"`
	// Error is an ErrorDetail in protojson: the agent has not started.
	Error json.RawMessage `json:"error,omitempty"`
}

// ParseReady reads a ready line. An agent that could not start is returned as its error.
func ParseReady(line []byte) (Ready, error) {
	var r Ready
	if err := json.Unmarshal(line, &r); err != nil {
		return Ready{}, rterr.New(rterr.Internal, "start agent", "it did not say that it is ready: %v", err)
	}
	if len(r.Error) == 0 {
		return r, nil
	}
	detail := &agentv1.ErrorDetail{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(r.Error, detail); err != nil {
		return r, rterr.New(rterr.Internal, "start agent", "it could not start, and its error cannot be read: %v", err)
	}
	return r, rterr.Wrap(rterr.Internal, "start agent", rtwire.FromDetail(detail))
}

// announcer writes the one line. Its zero value, and nil, announce to nobody.
type announcer struct {
	to        *os.File
	startedAt time.Time
}

func newAnnouncer(fd int, startedAt time.Time) *announcer {
	a := &announcer{startedAt: startedAt}
	if fd > 0 {
		a.to = os.NewFile(uintptr(fd), "ready")
	}
	return a
}

func (a *announcer) ready(address, v0Address string) error {
	ticks, err := sandbox.StartTime(os.Getpid())
	if err != nil {
		return err
	}
	return a.write(Ready{PID: os.Getpid(), StartedAt: a.startedAt, StartTicks: ticks, Address: address, V0Address: v0Address})
}

func (a *announcer) failed(cause error) error {
	detail, err := protojson.Marshal(rtwire.ToDetail(cause))
	if err != nil {
		return err
	}
	return a.write(Ready{PID: os.Getpid(), StartedAt: a.startedAt, Error: detail})
}

// write writes once; later calls do nothing.
func (a *announcer) write(r Ready) error {
	if a.to == nil {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = a.to.Write(append(line, '\n'))
	err = errors.Join(err, a.to.Close())
	a.to = nil
	return err
}
