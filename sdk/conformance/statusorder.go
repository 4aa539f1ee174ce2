package conformance

import (
	"fmt"
	"slices"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

const (
	stopped      = backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED
	building     = backendv1.RuntimeStatus_RUNTIME_STATUS_BUILDING_RUNTIME
	starting     = backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME
	started      = backendv1.RuntimeStatus_RUNTIME_STATUS_RUNTIME_STARTED
	workspace    = backendv1.RuntimeStatus_RUNTIME_STATUS_SETTING_UP_WORKSPACE
	gitHooks     = backendv1.RuntimeStatus_RUNTIME_STATUS_SETTING_UP_GIT_HOOKS
	ready        = backendv1.RuntimeStatus_RUNTIME_STATUS_READY
	failed       = backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR
	disconnected = backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR_RUNTIME_DISCONNECTED
)

// following returns the statuses that may come after one, by the table of statuses. STOPPED comes after none of them here: only a
// close leads to it, which is not Connect's to say.
func following(s backendv1.RuntimeStatus) []backendv1.RuntimeStatus {
	switch s {
	case stopped:
		return []backendv1.RuntimeStatus{starting}
	case starting:
		return []backendv1.RuntimeStatus{building, started, failed, disconnected}
	case building:
		return []backendv1.RuntimeStatus{starting, failed, disconnected}
	case started:
		return []backendv1.RuntimeStatus{workspace, ready, failed, disconnected}
	case workspace:
		return []backendv1.RuntimeStatus{gitHooks, ready, failed, disconnected}
	case gitHooks:
		return []backendv1.RuntimeStatus{ready, failed, disconnected}
	case ready:
		return []backendv1.RuntimeStatus{workspace, gitHooks, starting, failed, disconnected}
	case failed:
		return []backendv1.RuntimeStatus{starting}
	case disconnected:
		return []backendv1.RuntimeStatus{starting, ready, failed}
	default:
		return nil
	}
}

// checkOrder checks the statuses of one Connect: of a new sandbox from STOPPED on, of an attach from being disconnected on.
func checkOrder(statuses []backendv1.RuntimeStatus, attach bool) error {
	at := stopped
	if attach {
		at = disconnected
	}
	if len(statuses) == 0 && !attach {
		return fmt.Errorf("no status was reported; a new sandbox begins with %s", short(starting))
	}
	for i, next := range statuses {
		if !slices.Contains(following(at), next) {
			return fmt.Errorf("status %d: %s may not follow %s; the stream said: %s", i+1, short(next), short(at), shortAll(statuses))
		}
		at = next
	}
	if at == failed || (at == disconnected && !attach) {
		return fmt.Errorf("connected in status %s; the stream said: %s", short(at), shortAll(statuses))
	}
	return nil
}
