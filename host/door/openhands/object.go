package openhands

import (
	"context"
	"net/http"
	"sync"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0"
)

// The words for where a runtime stands, of both generations of clients.
const (
	statusStarting = "starting"
	statusRunning  = "running"
	statusPaused   = "paused"
	statusStopped  = "stopped"
	statusError    = "error"

	podPending  = "pending"
	podRunning  = "running"
	podReady    = "ready"
	podFailed   = "failed"
	podNotFound = "not found"
)

// object is a runtime as clients see it. No key is ever left out or null: some clients crash on either.
type object struct {
	RuntimeID         string         `json:"runtime_id"`
	SessionID         string         `json:"session_id"`
	URL               string         `json:"url"`
	SessionAPIKey     string         `json:"session_api_key"`
	Status            string         `json:"status"`
	PodStatus         string         `json:"pod_status"`
	WorkHosts         map[string]int `json:"work_hosts"`
	RestartCount      uint64         `json:"restart_count"`
	RestartReasons    []string       `json:"restart_reasons"`
	ContainerStatuses []string       `json:"container_statuses"`
	Events            []string       `json:"events"`
	PodLogs           string         `json:"pod_logs"`
	Image             string         `json:"image"`
	Command           string         `json:"command"`
}

// objects keeps the order.
func (d *Door) objects(ctx context.Context, list []*runtimev1.Runtime) []*object {
	out := make([]*object, len(list))
	turns := make(chan struct{}, probes)
	var all sync.WaitGroup
	for i, v := range list {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			out[i] = d.object(ctx, v)
		})
	}
	all.Wait()
	return out
}

// object looks at the runtime's own URL if it should be ready; it blocks for that, and for what is to be done in its shell before.
func (d *Door) object(ctx context.Context, v *runtimev1.Runtime) *object {
	o := &object{
		RuntimeID: v.GetId(), SessionID: v.GetSid(), URL: v.GetUrl(), SessionAPIKey: v.GetSessionKey(),
		WorkHosts:    workHosts(v.GetUrl()),
		RestartCount: max(v.GetGeneration(), 1) - 1, RestartReasons: []string{}, ContainerStatuses: []string{}, Events: []string{},
		Image: v.GetLabels()[labelImage], Command: v.GetLabels()[labelCommand],
	}
	if o.RestartCount > 0 {
		o.RestartReasons = append(o.RestartReasons, "the sandbox was gone and was made anew")
	}
	if v.GetLabels()[labelDoor] == doorOther {
		o.PodLogs = "the command was not run: only " + v0.ServerModule + " is known, which the sandbox's agent stands in for"
	}
	o.Status, o.PodStatus = d.standing(ctx, v, o)
	return o
}

// standing says where a runtime stands; what went wrong goes to the object's logs.
func (d *Door) standing(ctx context.Context, v *runtimev1.Runtime, o *object) (status, pod string) {
	switch {
	case !live(v):
		return statusStopped, podNotFound
	case broken(v):
		o.PodLogs = v.GetError().GetMessage()
		return statusError, podFailed
	case v.GetPhase() == backendv1.Phase_PHASE_PAUSED:
		return statusPaused, podNotFound
	case disconnected(v):
		return statusStarting, podRunning // the host looks for it
	case !admits(v):
		return statusStarting, podPending
	}
	if err := d.prepare(ctx, v); err != nil {
		o.PodLogs = err.Error()
		if ctx.Err() == nil && !passing(err) {
			return statusError, podFailed
		}
		return statusStarting, podRunning
	}
	if err := d.answers(ctx, v.GetUrl()); err != nil {
		o.PodLogs = err.Error()
		return statusStarting, podRunning
	}
	return statusRunning, podReady
}

func disconnected(v *runtimev1.Runtime) bool {
	return v.GetStatus() == backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR_RUNTIME_DISCONNECTED
}

// admits: actions may start.
func admits(v *runtimev1.Runtime) bool {
	switch v.GetStatus() {
	case backendv1.RuntimeStatus_RUNTIME_STATUS_READY, backendv1.RuntimeStatus_RUNTIME_STATUS_SETTING_UP_WORKSPACE,
		backendv1.RuntimeStatus_RUNTIME_STATUS_SETTING_UP_GIT_HOOKS:
		return true
	default:
		return false
	}
}

// answers asks a runtime's own URL whether it is alive, as clients will.
func (d *Door) answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+v0.PathAlive, nil)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return &v0.Failure{Status: resp.StatusCode, Detail: url + v0.PathAlive + " is not answered with 2xx"}
	}
	return nil
}
