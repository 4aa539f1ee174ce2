package api

import (
	"context"

	"connectrpc.com/connect"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
)

// Workspaces sets up workspaces and looks at their repositories, by the rules of runtime.v1 WorkspaceService.
type Workspaces interface {
	SetEnv(context.Context, *runtimev1.SetEnvRequest) (*runtimev1.SetEnvResponse, error)
	CloneRepository(context.Context, *runtimev1.CloneRepositoryRequest) (*runtimev1.CloneRepositoryResponse, error)
	InitRepository(context.Context, *runtimev1.InitRepositoryRequest) (*runtimev1.InitRepositoryResponse, error)
	RunSetupScript(context.Context, *runtimev1.RunSetupScriptRequest) (*runtimev1.RunSetupScriptResponse, error)
	InstallGitHooks(context.Context, *runtimev1.InstallGitHooksRequest) (*runtimev1.InstallGitHooksResponse, error)
	ListChanges(context.Context, *runtimev1.ListChangesRequest) (*runtimev1.ListChangesResponse, error)
	GetDiff(context.Context, *runtimev1.GetDiffRequest) (*runtimev1.GetDiffResponse, error)
	GetBranch(context.Context, *runtimev1.GetBranchRequest) (*runtimev1.GetBranchResponse, error)
}

// workspaces serves WorkspaceService.
type workspaces struct {
	w Workspaces
}

var _ runtimev1connect.WorkspaceServiceHandler = (*workspaces)(nil)

func (s *workspaces) SetEnv(ctx context.Context, req *connect.Request[runtimev1.SetEnvRequest]) (*connect.Response[runtimev1.SetEnvResponse], error) {
	return answer(s.w.SetEnv(ctx, req.Msg))
}

func (s *workspaces) CloneRepository(ctx context.Context, req *connect.Request[runtimev1.CloneRepositoryRequest]) (*connect.Response[runtimev1.CloneRepositoryResponse], error) {
	return answer(s.w.CloneRepository(ctx, req.Msg))
}

func (s *workspaces) InitRepository(ctx context.Context, req *connect.Request[runtimev1.InitRepositoryRequest]) (*connect.Response[runtimev1.InitRepositoryResponse], error) {
	return answer(s.w.InitRepository(ctx, req.Msg))
}

func (s *workspaces) RunSetupScript(ctx context.Context, req *connect.Request[runtimev1.RunSetupScriptRequest]) (*connect.Response[runtimev1.RunSetupScriptResponse], error) {
	return answer(s.w.RunSetupScript(ctx, req.Msg))
}

func (s *workspaces) InstallGitHooks(ctx context.Context, req *connect.Request[runtimev1.InstallGitHooksRequest]) (*connect.Response[runtimev1.InstallGitHooksResponse], error) {
	return answer(s.w.InstallGitHooks(ctx, req.Msg))
}

func (s *workspaces) ListChanges(ctx context.Context, req *connect.Request[runtimev1.ListChangesRequest]) (*connect.Response[runtimev1.ListChangesResponse], error) {
	return answer(s.w.ListChanges(ctx, req.Msg))
}

func (s *workspaces) GetDiff(ctx context.Context, req *connect.Request[runtimev1.GetDiffRequest]) (*connect.Response[runtimev1.GetDiffResponse], error) {
	return answer(s.w.GetDiff(ctx, req.Msg))
}

func (s *workspaces) GetBranch(ctx context.Context, req *connect.Request[runtimev1.GetBranchRequest]) (*connect.Response[runtimev1.GetBranchResponse], error) {
	return answer(s.w.GetBranch(ctx, req.Msg))
}
