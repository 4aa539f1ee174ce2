package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// featureVSCode is what OpenHands calls the plugin that serves VSCode.
const featureVSCode = "vscode"

// vscodeToken is the token of a devbox's VSCode server: whoever has the agent's credential can make it, nobody can go back.
func vscodeToken(credential string) string {
	sum := sha256.Sum256([]byte("openhands-rt vscode " + credential))
	return hex.EncodeToString(sum[:])
}

// startVSCode starts the image's VSCode server where one is configured and wanted.
func (j *job) startVSCode(ctx context.Context) error {
	v, spec := j.set.VSCode, j.req.GetSpec()
	if v == nil || v.Command == "" || (spec.GetHeadlessMode() && !slices.Contains(spec.GetFeatures(), featureVSCode)) {
		return nil
	}
	return j.p.run(stepVSCode, func() (string, error) {
		name := vscodeToken(j.view.ID)[:16]
		file := j.seen["home"] + "/" + folder + "/run/token-" + name
		if err := j.set.api.WriteFile(ctx, j.view.ID, file, vscodeToken(j.req.GetAgentCredential())); err != nil {
			return "", j.named(err)
		}
		out, err := j.set.api.Run(ctx, j.view.ID, vscodeScript(v.Command, name, v.Port, j.seen["workspace"]))
		if err != nil {
			return "", j.named(err)
		}
		if out.Exit != 0 {
			return "", j.named(scriptFailed("start VSCode", out.Exit, out.Stderr))
		}
		return "", nil
	})
}

// VSCodeURL returns the address of the devbox's VSCode server through the tunnel, with its token and the folder.
func (s *Service) VSCodeURL(ctx context.Context, req *backendv1.VSCodeURLRequest) (*backendv1.VSCodeURLResponse, error) {
	const op = "vscode url"
	set, id, err := s.named(op, req)
	if err != nil {
		return nil, err
	}
	if set.VSCode == nil {
		return nil, rterr.New(rterr.Unsupported, op, "no VSCode server is configured").
			WithRemedy("set vscode in the backend's config, for an image that has one")
	}
	view, err := s.look(ctx, set, op, id)
	if err != nil {
		return nil, err
	}
	e, err := set.endpoint(view, set.VSCode.Port)
	if err != nil {
		return nil, rterr.Wrap(rterr.SandboxUnreachable, op, err)
	}
	query := url.Values{"tkn": {vscodeToken(req.GetAgentCredential())}, "folder": {orElse(req.GetFolder(), mountedWorkspace)}}
	return &backendv1.VSCodeURLResponse{Url: e.GetAddress() + e.GetPath() + "/?" + query.Encode()}, nil
}
