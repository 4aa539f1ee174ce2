package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// serve makes the running devbox's agent answer: the one that runs already, or one that is put there and started.
func (j *job) serve(ctx context.Context) error {
	if j.set.isBare() {
		return j.serveBare(ctx)
	}
	if j.attached && !j.taken && j.view.Tunnel != nil {
		err := j.greet(ctx)
		if err == nil {
			return j.p.run(stepReady, func() (string, error) { return "it runs already", j.renew(ctx) })
		}
		if rterr.Is(err, rterr.Unauthenticated, rterr.Integrity, rterr.Cancelled) {
			return rterr.Wrap(rterr.Internal, stepReady, err)
		}
	}
	if err := j.p.run(stepAgent, func() (string, error) { return j.install(ctx) }); err != nil {
		return err
	}
	if err := j.p.run(stepTunnel, func() (string, error) { return "", j.tunnel(ctx) }); err != nil {
		return err
	}
	if err := j.p.run(stepReady, func() (string, error) { return "", j.ready(ctx) }); err != nil {
		return err
	}
	return j.startVSCode(ctx)
}

// install puts the agent into the devbox if it is not there to the byte, and starts it.
func (j *job) install(ctx context.Context) (string, error) {
	if err := j.prepare(ctx); err != nil {
		return "", err
	}
	p := j.set.programs[archOf(j.seen["arch"])]
	if p == nil {
		return "", rterr.New(rterr.ConfigInvalid, "", "there is no agent for %s, which the devbox is", j.seen["arch"]).
			With("devbox", j.view.ID).WithRemedy("put openhands-rt-agent-" + archOf(j.seen["arch"]) + " beside the plugin")
	}
	nonce, given := strings.ToLower(rand.Text()), ""
	if j.seen["given"] == p.sum {
		given = j.set.AgentBinary.Path
	}
	detail := "it is there already"
	group, groupCtx := errgroup.WithContext(ctx)
	if given == "" && j.seen["own"] != p.sum {
		detail = "uploaded"
		group.Go(func() error { return j.upload(groupCtx, p, nonce) })
	}
	group.Go(func() error { return j.writeConfig(groupCtx, nonce) })
	if err := group.Wait(); err != nil {
		return "", j.named(err)
	}
	ready, err := j.start(ctx, nonce, p.sum, given)
	if err != nil {
		return "", j.named(err)
	}
	return fmt.Sprintf("%s, pid %d", detail, ready.PID), j.relabel(ctx, ready.Address)
}

func archOf(machine string) string {
	if machine == "aarch64" || machine == "arm64" {
		return archARM
	}
	return archX86
}

// named adds the devbox to an error.
func (j *job) named(err error) error {
	e := *rterr.From(err)
	return e.With("devbox", j.view.ID)
}

// prepare makes the folders in the devbox and asks what there is.
func (j *job) prepare(ctx context.Context) error {
	out, err := j.set.api.Run(ctx, j.view.ID, prepareScript(j.spec.Workspace, j.set.AgentBinary.Path))
	if err != nil {
		return j.named(err)
	}
	j.seen = said(out.Stdout)
	if out.Exit != 0 || j.seen["home"] == "" || j.seen["workspace"] == "" {
		return j.named(scriptFailed("prepare the devbox", out.Exit, out.Stderr))
	}
	return nil
}

func (j *job) upload(ctx context.Context, p *program, nonce string) error {
	content, err := os.ReadFile(p.path)
	if err != nil {
		return rterr.Wrap(rterr.ConfigInvalid, "read the agent", err)
	}
	return j.set.api.Upload(ctx, j.view.ID, j.seen["home"]+"/"+folder+"/bin/upload-"+nonce, content)
}

// writeConfig writes what the agent is told into a file that only the devbox's user can read, and that is removed before the agent
// runs: the credential is in no command line, log or environment.
func (j *job) writeConfig(ctx context.Context, nonce string) error {
	home := j.seen["home"]
	env := maps.Clone(j.spec.Env)
	if env == nil {
		env = map[string]string{}
	}
	maps.Copy(env, j.req.GetSpec().GetEnv())
	raw, err := json.Marshal(boot.Config{
		Schema: boot.Schema, Listen: "0.0.0.0:" + strconv.Itoa(j.set.Port),
		// The records are this devbox's: one that begins with a snapshot of another has none of its.
		StateDir: home + "/" + folder + "/state/" + j.view.ID, Workspace: j.seen["workspace"], Home: home, Username: j.seen["user"],
		SandboxID: j.view.ID, RuntimeID: j.req.GetRuntimeId(), Generation: j.req.GetGeneration(), Nonce: nonce,
		Credential: j.req.GetAgentCredential(), Env: env, InheritEnv: true, Lease: boot.Duration(j.lease()),
		LogFile: home + "/" + folder + "/agent.log", ReadyFD: readyFD,
	})
	if err != nil {
		return rterr.Wrap(rterr.Internal, "write the agent's config", err)
	}
	return j.set.api.WriteFile(ctx, j.view.ID, home+"/"+folder+"/run/config-"+nonce, string(raw))
}

// readyFD is the descriptor at which the start script listens.
const readyFD = 4

func (j *job) start(ctx context.Context, nonce, sum, given string) (boot.Ready, error) {
	out, err := j.set.api.Run(ctx, j.view.ID, startScript(nonce, sum, given))
	if err != nil {
		return boot.Ready{}, err
	}
	line := said(out.Stdout)["ready"]
	if out.Exit != 0 || line == "" {
		return boot.Ready{}, scriptFailed("start the agent", out.Exit, out.Stderr)
	}
	return boot.ParseReady([]byte(line))
}

// relabel writes down whose devbox it is now, and the port that the agent took.
func (j *job) relabel(ctx context.Context, address string) error {
	port := address[strings.LastIndexByte(address, ':')+1:]
	if !j.taken && j.view.Metadata[labelPort] == port && j.view.Metadata[labelKept] == "" {
		return nil
	}
	m := j.set.labels(j.req, j.view.Metadata, time.Now().Add(j.lease()))
	m[labelPort] = port
	if err := j.set.api.SetMetadata(ctx, j.view.ID, m); err != nil {
		return j.named(err)
	}
	j.view.Metadata = m
	return nil
}

// gone turns the API's own "no such devbox" into ours.
func gone(op, id string, err error) error {
	if client.Missing(err) {
		return client.Gone(op, id, "there is no such devbox")
	}
	return rterr.Wrap(rterr.Provider, op, err)
}
