package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

// hostV0 is the name of what goes through the door of OpenHands.
const hostV0 = "run over OpenHands' protocol"

// echoV0 is what OpenHands sends for `echo hi`.
const echoV0 = `{"action": {"action": "run", "args": {"command": "echo hi", "is_input": false, "thought": "", "blocking": false, ` +
	`"is_static": false, "cwd": null, "hidden": false, "confirmation_state": "confirmed", "security_risk": -1}, "timeout": 120.0}}`

// v0 measures a run through the door of OpenHands, in the runtime that runtime/v1 was measured in.
func (d *daemonProcess) v0(r *runtimev1.Runtime) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	return d.b.measure(hostV0, d.b.rounds, func() error {
		req, err := http.NewRequestWithContext(d.b.ctx, http.MethodPost, r.GetUrl()+"/execute_action", bytes.NewReader([]byte(echoV0)))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Session-API-Key", r.GetSessionKey())
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"exit_code":0`))) {
			err = fmt.Errorf("unexpected answer %d %s", resp.StatusCode, body)
		}
		return errors.Join(err, resp.Body.Close())
	})
}
