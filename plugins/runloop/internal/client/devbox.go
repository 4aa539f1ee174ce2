package client

import (
	"context"
	"net/http"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Create makes a devbox. It is not repeated where it may have had its effect: the caller looks for what was made, and calls again
// with the same request id if there is nothing (see Uncertain).
func (c *Client) Create(ctx context.Context, requestID string, req api.DevboxCreateParameters) (*api.DevboxView, error) {
	return ask[api.DevboxView](ctx, c, "create devbox", &call{kind: once}, func(ctx context.Context) (*http.Response, error) {
		return c.api.CreateDevbox(ctx, &api.CreateDevboxParams{XRequestID: &requestID}, req)
	})
}

// Retrieve returns a devbox. See Missing for one that does not exist.
func (c *Client) Retrieve(ctx context.Context, id string) (*api.DevboxView, error) {
	return ask[api.DevboxView](ctx, c, "look at devbox "+id, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.RetrieveDevbox(ctx, id)
	})
}

// List returns one page of devboxes, newest first, after the one with the id after ("" for the first page); of one status, or of all
// for "".
func (c *Client) List(ctx context.Context, status api.DevboxStatus, after string, limit int) (*api.DevboxListView, error) {
	count := api.IncludeTotalCount(false)
	size := api.Limit(limit) //nolint:gosec // a page
	params := &api.ListDevboxesParams{Limit: &size, IncludeTotalCount: &count}
	if status != "" {
		params.Status = &status
	}
	if after != "" {
		params.StartingAfter = &after
	}
	return ask[api.DevboxListView](ctx, c, "list devboxes", &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.ListDevboxes(ctx, params)
	})
}

// SetMetadata replaces the metadata of a devbox.
func (c *Client) SetMetadata(ctx context.Context, id string, metadata map[string]string) error {
	return c.tell(ctx, "label devbox "+id, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.UpdateDevbox(ctx, id, &api.UpdateDevboxParams{}, api.DevboxUpdateParameters{Metadata: metadata})
	})
}

// Wait blocks until a devbox has one of the statuses, for at most hold. nil without an error: it has none of them yet.
func (c *Client) Wait(ctx context.Context, id string, hold time.Duration, statuses ...api.DevboxStatus) (*api.DevboxView, error) {
	seconds := float32(hold.Seconds())
	view, err := ask[api.DevboxView](ctx, c, "wait for devbox "+id, &call{kind: poll, limit: hold + holdSlack},
		func(ctx context.Context) (*http.Response, error) {
			return c.api.WaitForDevboxStatus(ctx, id, &api.WaitForDevboxStatusParams{},
				api.DevboxWaitForStatusRequest{Statuses: statuses, TimeoutSeconds: &seconds})
		})
	if Status(err) == http.StatusRequestTimeout {
		return nil, nil
	}
	return view, err
}

// Shutdown ends a devbox for good, snapshots under way or not, and returns it; nil where there is none, which is a success.
func (c *Client) Shutdown(ctx context.Context, id string) (*api.DevboxView, error) {
	force := "true"
	view, err := ask[api.DevboxView](ctx, c, "shut down devbox "+id, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.ShutdownDevbox(ctx, id, &api.ShutdownDevboxParams{Force: &force})
	})
	if Missing(err) {
		return nil, nil
	}
	return view, err
}

// Suspend begins to suspend a devbox. 400 says that it does not run.
func (c *Client) Suspend(ctx context.Context, id string) error {
	return c.tell(ctx, "suspend devbox "+id, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.SuspendDevbox(ctx, id, &api.SuspendDevboxParams{})
	})
}

// Resume begins to resume a devbox. 400 says that it is not suspended.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.tell(ctx, "resume devbox "+id, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.ResumeDevbox(ctx, id, &api.ResumeDevboxParams{})
	})
}

// KeepAlive begins the life of a devbox anew.
func (c *Client) KeepAlive(ctx context.Context, id string) error {
	return c.tell(ctx, "keep devbox "+id+" alive", &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.KeepAliveDevbox(ctx, id, &api.KeepAliveDevboxParams{})
	})
}

// EnableTunnel makes the tunnel of a devbox. 400 says that there is one already, or that the devbox does not run.
func (c *Client) EnableTunnel(ctx context.Context, id string, mode api.TunnelAuthMode) (*api.TunnelView, error) {
	wake, keep := false, true
	return ask[api.TunnelView](ctx, c, "enable the tunnel of devbox "+id, &call{kind: again},
		func(ctx context.Context) (*http.Response, error) {
			return c.api.EnableDevboxTunnel(ctx, id, &api.EnableDevboxTunnelParams{},
				api.TunnelConfig{AuthMode: &mode, HTTPKeepAlive: &keep, WakeOnHTTP: &wake})
		})
}

// Usage returns what a devbox has used so far.
func (c *Client) Usage(ctx context.Context, id string) (*api.DevboxResourceUsageView, error) {
	return ask[api.DevboxResourceUsageView](ctx, c, "usage of devbox "+id, &call{kind: again},
		func(ctx context.Context) (*http.Response, error) { return c.api.RetrieveDevboxUsage(ctx, id) })
}

// Logs returns the log of a devbox so far.
func (c *Client) Logs(ctx context.Context, id string) (*api.DevboxLogsListView, error) {
	return ask[api.DevboxLogsListView](ctx, c, "logs of devbox "+id, &call{kind: again},
		func(ctx context.Context) (*http.Response, error) {
			return c.api.ListDevboxLogs(ctx, id, &api.ListDevboxLogsParams{})
		})
}

// Snapshot begins a snapshot of a devbox's disk. Like Create it is not repeated where it may have had its effect.
func (c *Client) Snapshot(ctx context.Context, requestID, id, name string, metadata map[string]string) (*api.DevboxSnapshotView, error) {
	req := api.DevboxSnapshotRequest{Metadata: metadata}
	if name != "" {
		req.Name = &name
	}
	return ask[api.DevboxSnapshotView](ctx, c, "snapshot devbox "+id, &call{kind: once}, func(ctx context.Context) (*http.Response, error) {
		return c.api.SnapshotDiskAsync(ctx, id, &api.SnapshotDiskAsyncParams{XRequestID: &requestID}, req)
	})
}

// Snapshots returns a page of the snapshots of a devbox, newest first.
func (c *Client) Snapshots(ctx context.Context, devbox string) (*api.DevboxSnapshotListView, error) {
	return ask[api.DevboxSnapshotListView](ctx, c, "list snapshots", &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.ListDiskSnapshots(ctx, &api.ListDiskSnapshotsParams{DevboxID: &devbox})
	})
}

// SnapshotStatus tells how far a snapshot is.
func (c *Client) SnapshotStatus(ctx context.Context, id string) (*api.DevboxSnapshotAsyncStatusView, error) {
	return ask[api.DevboxSnapshotAsyncStatusView](ctx, c, "look at snapshot "+id, &call{kind: again},
		func(ctx context.Context) (*http.Response, error) { return c.api.QueryDiskSnapshotStatus(ctx, id) })
}

// Blueprint returns a blueprint by its id.
func (c *Client) Blueprint(ctx context.Context, id string) (*api.BlueprintView, error) {
	return ask[api.BlueprintView](ctx, c, "look at blueprint "+id, &call{kind: again},
		func(ctx context.Context) (*http.Response, error) { return c.api.RetrieveBlueprint(ctx, id) })
}

// Blueprints returns the newest blueprints of a name.
func (c *Client) Blueprints(ctx context.Context, name string) (*api.BlueprintListView, error) {
	return ask[api.BlueprintListView](ctx, c, "list blueprints", &call{kind: again},
		func(ctx context.Context) (*http.Response, error) {
			return c.api.ListBlueprints(ctx, &api.ListBlueprintsParams{Name: &name})
		})
}

// Build begins to build a blueprint of a Dockerfile. Building one twice costs time alone.
func (c *Client) Build(ctx context.Context, name, dockerfile string) (*api.BlueprintView, error) {
	return ask[api.BlueprintView](ctx, c, "build blueprint "+name, &call{kind: again}, func(ctx context.Context) (*http.Response, error) {
		return c.api.CreateBlueprint(ctx, &api.CreateBlueprintParams{}, api.BlueprintBuildParameters{Name: name, Dockerfile: &dockerfile})
	})
}

// Gone is the error of a devbox that has ended or never was.
func Gone(operation, id, why string) *rterr.Error {
	return rterr.New(rterr.SandboxGone, operation, "devbox %s: %s", id, why).With("devbox", id)
}
