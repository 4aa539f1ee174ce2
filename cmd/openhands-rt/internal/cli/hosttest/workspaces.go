package hosttest

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// workspaces answers what is always the same, and remembers what it was asked.
type workspaces struct {
	runtimev1connect.UnimplementedWorkspaceServiceHandler
	h *Host
}

// Asked returns the last request for a workspace.
func (h *Host) Asked() proto.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

func reply[T any](s workspaces, req proto.Message, id string, resp *T) (*connect.Response[T], error) {
	s.h.mu.Lock()
	s.h.asked = req
	s.h.mu.Unlock()
	if _, err := s.h.find(id, ""); err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

func (s workspaces) SetEnv(_ context.Context, req *connect.Request[runtimev1.SetEnvRequest]) (*connect.Response[runtimev1.SetEnvResponse], error) {
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), &runtimev1.SetEnvResponse{})
}

func (s workspaces) CloneRepository(_ context.Context, req *connect.Request[runtimev1.CloneRepositoryRequest]) (*connect.Response[runtimev1.CloneRepositoryResponse], error) {
	if req.Msg.GetUrl() == "https://git.example.com/secret" && req.Msg.GetToken() == "" {
		return nil, rthttp.ToConnect(rterr.New(rterr.PermissionDenied, "clone", "the server does not let us in").
			WithRemedy("give a token that may read this repository"))
	}
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), &runtimev1.CloneRepositoryResponse{Dir: "/workspace/tool", Branch: "main"})
}

func (s workspaces) InitRepository(_ context.Context, req *connect.Request[runtimev1.InitRepositoryRequest]) (*connect.Response[runtimev1.InitRepositoryResponse], error) {
	if req.Msg.GetDir() == "cut" { // the connection, before the answer
		panic(http.ErrAbortHandler)
	}
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), &runtimev1.InitRepositoryResponse{Dir: "/workspace"})
}

// RunSetupScript takes its answer from the name of the folder.
func (s workspaces) RunSetupScript(_ context.Context, req *connect.Request[runtimev1.RunSetupScriptRequest]) (*connect.Response[runtimev1.RunSetupScriptResponse], error) {
	resp := &runtimev1.RunSetupScriptResponse{Found: true, Output: "installed"}
	switch req.Msg.GetDir() {
	case "none":
		resp = &runtimev1.RunSetupScriptResponse{}
	case "bad":
		resp.ExitCode, resp.Output = 3, "no"
	case "slow":
		resp.ExitCode, resp.TimedOut, resp.Output = -1, true, ""
	}
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), resp)
}

func (s workspaces) InstallGitHooks(_ context.Context, req *connect.Request[runtimev1.InstallGitHooksRequest]) (*connect.Response[runtimev1.InstallGitHooksResponse], error) {
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), &runtimev1.InstallGitHooksResponse{Found: true, Kept: true})
}

func (s workspaces) ListChanges(_ context.Context, req *connect.Request[runtimev1.ListChangesRequest]) (*connect.Response[runtimev1.ListChangesResponse], error) {
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), &runtimev1.ListChangesResponse{Changes: []*runtimev1.Change{
		{Status: runtimev1.ChangeStatus_CHANGE_STATUS_ADDED, Path: "a"}, {Status: runtimev1.ChangeStatus_CHANGE_STATUS_MODIFIED, Path: "b c"},
		{Status: runtimev1.ChangeStatus_CHANGE_STATUS_DELETED, Path: "d"}, {Status: runtimev1.ChangeStatus_CHANGE_STATUS_UNMERGED, Path: "e\x1b[31m"},
	}})
}

func (s workspaces) GetDiff(_ context.Context, req *connect.Request[runtimev1.GetDiffRequest]) (*connect.Response[runtimev1.GetDiffResponse], error) {
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), &runtimev1.GetDiffResponse{Original: "one\ntwo\n", Modified: "one\nthree"})
}

func (s workspaces) GetBranch(_ context.Context, req *connect.Request[runtimev1.GetBranchRequest]) (*connect.Response[runtimev1.GetBranchResponse], error) {
	return reply(s, req.Msg, req.Msg.GetRuntimeId(), &runtimev1.GetBranchResponse{Branch: "main"})
}
