package client

import (
	"context"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// Interrupt signals an action's tree; the contract is agent.v1 Interrupt.
func (c *Client) Interrupt(ctx context.Context, req *agentv1.InterruptRequest) (*agentv1.InterruptResponse, error) {
	return unary(ctx, c, "interrupt action", c.rpc.Interrupt, req)
}

// Input writes to an action's stdin or terminal; blocks while the command does not read; the contract is agent.v1 Input.
func (c *Client) Input(ctx context.Context, req *agentv1.InputRequest) (*agentv1.InputResponse, error) {
	return unary(ctx, c, "send input", c.rpc.Input, req)
}

// Resize sets the size of an action's terminal; the contract is agent.v1 Resize.
func (c *Client) Resize(ctx context.Context, req *agentv1.ResizeRequest) (*agentv1.ResizeResponse, error) {
	return unary(ctx, c, "resize terminal", c.rpc.Resize, req)
}

// GetAction returns the record of an action; the contract is agent.v1 GetAction.
func (c *Client) GetAction(ctx context.Context, req *agentv1.GetActionRequest) (*agentv1.GetActionResponse, error) {
	return unary(ctx, c, "get action", c.rpc.GetAction, req)
}

// ListActions returns records, newest first; the contract is agent.v1 ListActions.
func (c *Client) ListActions(ctx context.Context, req *agentv1.ListActionsRequest) (*agentv1.ListActionsResponse, error) {
	return unary(ctx, c, "list actions", c.rpc.ListActions, req)
}

// StatFile describes a path; the contract is agent.v1 StatFile.
func (c *Client) StatFile(ctx context.Context, req *agentv1.StatFileRequest) (*agentv1.StatFileResponse, error) {
	return unary(ctx, c, "stat file", c.rpc.StatFile, req)
}

// ListFiles returns the entries of a folder; the contract is agent.v1 ListFiles.
func (c *Client) ListFiles(ctx context.Context, req *agentv1.ListFilesRequest) (*agentv1.ListFilesResponse, error) {
	return unary(ctx, c, "list files", c.rpc.ListFiles, req)
}

// MakeDir makes a folder and its parents; the contract is agent.v1 MakeDir.
func (c *Client) MakeDir(ctx context.Context, req *agentv1.MakeDirRequest) (*agentv1.MakeDirResponse, error) {
	return unary(ctx, c, "make folder", c.rpc.MakeDir, req)
}

// RemoveFile removes a file or folder; the contract is agent.v1 RemoveFile.
func (c *Client) RemoveFile(ctx context.Context, req *agentv1.RemoveFileRequest) (*agentv1.RemoveFileResponse, error) {
	return unary(ctx, c, "remove file", c.rpc.RemoveFile, req)
}

// ListPorts returns the ports on which the sandbox listens; the contract is agent.v1 ListPorts.
func (c *Client) ListPorts(ctx context.Context, req *agentv1.ListPortsRequest) (*agentv1.ListPortsResponse, error) {
	return unary(ctx, c, "list ports", c.rpc.ListPorts, req)
}

// RenewLease moves the end of the lease; the contract is agent.v1 RenewLease.
func (c *Client) RenewLease(ctx context.Context, req *agentv1.RenewLeaseRequest) (*agentv1.RenewLeaseResponse, error) {
	return unary(ctx, c, "renew lease", c.rpc.RenewLease, req)
}

// Freeze stops every process of the sandbox; the contract is agent.v1 Freeze.
func (c *Client) Freeze(ctx context.Context, req *agentv1.FreezeRequest) (*agentv1.FreezeResponse, error) {
	return unary(ctx, c, "freeze", c.rpc.Freeze, req)
}

// Thaw lets them go on; the contract is agent.v1 Thaw.
func (c *Client) Thaw(ctx context.Context, req *agentv1.ThawRequest) (*agentv1.ThawResponse, error) {
	return unary(ctx, c, "thaw", c.rpc.Thaw, req)
}

// Shutdown kills the tree and ends the agent; the contract is agent.v1 Shutdown.
func (c *Client) Shutdown(ctx context.Context, req *agentv1.ShutdownRequest) (*agentv1.ShutdownResponse, error) {
	return unary(ctx, c, "shut down agent", c.rpc.Shutdown, req)
}
