package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func capabilityClauses() []clause {
	return []clause{
		{name: "capability/refused", run: capabilityRefused,
			rule: "What is not claimed is refused with UNSUPPORTED (UNIMPLEMENTED on the wire), never done badly."},
		{name: "capability/kinds", run: capabilityKinds,
			rule: "Every kind of action that is claimed is known to a sandbox."},
		{name: "capability/workspace-mount", run: capabilityMount,
			needs: []need{needProcess(), capability("workspace_mount", (*backendv1.Capabilities).GetWorkspaceMount)},
			rule:  "/workspace is each sandbox's own workspace folder."},
		{name: "capability/given-workspace", needs: []need{needProcess(), needWorkspaces()}, run: capabilityGiven,
			rule: "A workspace that is given is the one that actions see."},
		{name: "capability/ports", run: capabilityPorts,
			needs: []need{needProcess(), capability("ports", (*backendv1.Capabilities).GetPorts)},
			rule:  "Endpoint of a port reaches what listens on it in the sandbox over HTTP."},
		{name: "capability/vscode", needs: []need{capability("vscode", (*backendv1.Capabilities).GetVscode)}, run: capabilityVSCode,
			rule: "VSCodeURL returns a URL that answers, with a token and the folder."},
		{name: "capability/snapshot", run: capabilitySnapshot,
			needs: []need{needProcess(), capability("snapshot", (*backendv1.Capabilities).GetSnapshot)},
			rule:  "Restore of a Snapshot makes another sandbox with the files of the first."},
		{name: "capability/usage", needs: []need{capability("usage", (*backendv1.Capabilities).GetUsage)}, run: capabilityUsage,
			rule: "Usage tells the memory and the processes of a sandbox."},
		{name: "capability/logs", needs: []need{capability("logs", (*backendv1.Capabilities).GetLogs)}, run: capabilityLogs,
			rule: "Logs without follow ends by itself."},
		{name: "capability/diagnose", needs: []need{capability("diagnose", (*backendv1.Capabilities).GetDiagnose)}, run: capabilityDiagnose,
			rule: "Diagnose returns named checks, and a remedy for each that failed."},
	}
}

func capabilityRefused(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	calls := everyCall(sb.peer, sb.handle, c.s.request())
	has := c.s.expect
	for _, call := range []struct {
		name    string
		claimed bool
	}{
		{"Pause", has.GetPause()}, {"Resume", has.GetPause()}, {"VSCodeURL", has.GetVscode()},
		{"Snapshot", has.GetSnapshot()}, {"Restore", has.GetSnapshot()}, {"Usage", has.GetUsage()},
		{"Logs", has.GetLogs()}, {"Diagnose", has.GetDiagnose()},
	} {
		if call.claimed {
			continue
		}
		c.step("%s, which is not claimed", call.name)
		if err := wantReason(calls[call.name](ctx), rterr.Unsupported); err != nil {
			return err
		}
	}
	return c.endpointsRefused(ctx, sb)
}

// endpointsRefused checks what Endpoint says where it has nothing to say.
func (c *check) endpointsRefused(ctx context.Context, sb *sandbox) error {
	if !c.s.expect.GetPorts() {
		c.step("Endpoint of port 8080, ports are not claimed")
		_, err := sb.endpoint(ctx, 8080)
		if err := wantReason(err, rterr.Unsupported); err != nil {
			return err
		}
	}
	if c.s.expect.GetAgentEndpoint() {
		return nil
	}
	c.step("Endpoint of the agent, which is not claimed")
	if e, err := sb.endpoint(ctx, 0); err != nil {
		return wantReason(err, rterr.Unsupported)
	} else if !e.GetPluginOnly() {
		return fmt.Errorf("the agent's endpoint is %q, neither refused nor plugin_only", e.GetAddress())
	}
	return nil
}

func capabilityKinds(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	for _, kind := range c.s.expect.GetKinds() {
		c.step("an action of kind %s with a payload that is no JSON", kind)
		why, err := refusal(ctx, pluginRoute{}, sb, rawAction(kind, "not json", 0))
		if err != nil {
			return err
		}
		if err := wantReason(why, rterr.InvalidArgument); err != nil {
			return err
		}
	}
	return nil
}

func capabilityMount(ctx context.Context, c *check) error {
	first, err := c.connect(ctx)
	if err != nil {
		return err
	}
	second, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("write a file in /workspace of one sandbox")
	out, err := ok(ctx, pluginRoute{}, first, shell("pwd; echo mine > /workspace/conformance-mount"))
	if err != nil {
		return err
	}
	if got := first.connected.GetWorkspace(); out != "/workspace\n" || got != "/workspace" {
		return fmt.Errorf("actions start in %q, Connected says %q, want /workspace", out, got)
	}
	c.step("look for it in the other")
	out, err = ok(ctx, pluginRoute{}, second, shell("cat /workspace/conformance-mount 2>/dev/null || echo none"))
	if err != nil {
		return err
	}
	if out != "none\n" {
		return fmt.Errorf("a sandbox sees another one's file: %q", out)
	}
	return nil
}

func capabilityGiven(ctx context.Context, c *check) error {
	dir, err := c.workspace()
	if err != nil {
		return err
	}
	sb, err := c.connect(ctx, func(r *backendv1.ConnectRequest) { r.Spec.Workspace = dir })
	if err != nil {
		return err
	}
	c.step("write a file in the workspace")
	if _, err := ok(ctx, pluginRoute{}, sb, shell("echo here > given")); err != nil {
		return err
	}
	return wantHere(dir, "given", "here\n")
}

// listeners are programs that serve HTTP on a free port and print it, of which a sandbox may have one.
const listeners = `
if command -v python3 >/dev/null; then
  exec python3 -u -c '
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"path " + self.path.encode())
    def log_message(self, *a): pass
s = http.server.HTTPServer(("127.0.0.1", 0), H)
print("port", s.server_port, "ready")
s.serve_forever()'
elif command -v perl >/dev/null; then
  exec perl -MIO::Socket::INET -e '
$| = 1; $s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die; print "port ", $s->sockport, " ready\n";
while ($c = $s->accept) { $l = <$c>; ($p) = $l =~ /^GET (\S+)/; while (<$c>) { last if /^\r?$/ } $b = "path $p";
  print $c "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ", length $b, "\r\n\r\n$b"; close $c }'
fi
echo "neither python3 nor perl" >&2; exit 1`

func capabilityPorts(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("serve HTTP in the sandbox")
	r, err := startOn(ctx, pluginRoute{}, sb, order{action: shell(listeners)})
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.until(stdout, "ready\n"); err != nil {
		return fmt.Errorf("%w; this check needs python3 or perl in the sandbox", err)
	}
	var port uint32
	if _, err := fmt.Sscanf(string(r.output[stdout]), "port %d ready", &port); err != nil {
		return err
	}
	c.step("endpoint of port %d", port)
	e, err := sb.endpoint(ctx, port)
	if err != nil {
		return err
	}
	c.step("GET /conformance?x=1 at %s%s", e.GetAddress(), e.GetPath())
	body, err := get(ctx, e, sb.credential(), "/conformance?x=1")
	if err != nil {
		return err
	}
	if body != "path /conformance?x=1" {
		return fmt.Errorf("the sandbox's server answered %q", body)
	}
	return nil
}

// get fetches a path at an endpoint.
func get(ctx context.Context, e *backendv1.EndpointResponse, credential, path string) (string, error) {
	a, err := dialAgent(e, credential)
	if err != nil {
		return "", err
	}
	defer a.Close()
	answer, err := fetch(ctx, a, path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxPiece))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, quote(body))
	}
	return string(body), err
}

func capabilityVSCode(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx, func(r *backendv1.ConnectRequest) {
		r.Spec.HeadlessMode = false
		r.Spec.Features = append(r.Spec.Features, "vscode")
	})
	if err != nil {
		return err
	}
	c.step("VSCodeURL")
	answer, err := sb.VSCodeURL(ctx, &backendv1.VSCodeURLRequest{Handle: sb.handle, AgentCredential: sb.credential()})
	if err != nil {
		return wire(err)
	}
	u, err := url.Parse(answer.GetUrl())
	if err != nil {
		return err
	}
	if !strings.HasPrefix(u.Scheme, "http") || u.Query().Get("tkn") == "" || u.Query().Get("folder") == "" {
		return fmt.Errorf("the URL has no scheme http(s), tkn or folder: %s://%s with %d parameters", u.Scheme, u.Host, len(u.Query()))
	}
	return nil
}

func capabilitySnapshot(ctx context.Context, c *check) error {
	first, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("write a file, and take a snapshot")
	if _, err := ok(ctx, pluginRoute{}, first, shell("echo kept > snapshot-file")); err != nil {
		return err
	}
	taken, err := first.Snapshot(ctx, &backendv1.SnapshotRequest{Handle: first.handle, Name: mint("snapshot")})
	if err != nil {
		return wire(err)
	}
	c.step("restore it")
	second, err := c.restore(ctx, taken.GetSnapshotId())
	if err != nil {
		return err
	}
	if second.id() == first.id() {
		return errors.New("Restore gave the same sandbox")
	}
	return wantFile(ctx, second, "snapshot-file", "kept\n")
}

func (c *check) restore(ctx context.Context, snapshot string) (*sandbox, error) {
	req := c.s.request()
	t := readConnect(c.s.main.Restore(ctx, &backendv1.RestoreRequest{Connect: req, SnapshotId: snapshot}))
	sb, err := c.s.sandboxOf(c.s.main, req, t)
	if err == nil {
		c.later(sb.discard)
	}
	return sb, err
}

func capabilityUsage(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	if needProcess().met(c.s) {
		c.step("start a process")
		if err := c.busy(ctx, sb); err != nil {
			return err
		}
	}
	c.step("Usage")
	u, err := sb.Usage(ctx, &backendv1.UsageRequest{Handle: sb.handle})
	if err != nil {
		return wire(err)
	}
	if u.GetMemoryBytes() == 0 || u.GetPids() == 0 {
		return fmt.Errorf("a running sandbox uses %d bytes in %d processes", u.GetMemoryBytes(), u.GetPids())
	}
	return nil
}

// busy returns when a process runs in the sandbox; it is killed after the clause.
func (c *check) busy(ctx context.Context, sb *sandbox) error {
	a := shell("echo up; exec sleep 1000")
	r, err := startOn(ctx, pluginRoute{}, sb, order{action: a})
	if err != nil {
		return err
	}
	defer r.close()
	c.later(func(ctx context.Context) { _ = hit(ctx, pluginRoute{}, sb, a, levelKill) }) // what is left of it ends with the sandbox
	return r.until(stdout, "up\n")
}

func capabilityLogs(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("Logs")
	stream, err := sb.Logs(ctx, &backendv1.LogsRequest{Handle: sb.handle})
	return drain(stream, err)
}

func capabilityDiagnose(ctx context.Context, c *check) error {
	c.step("Diagnose")
	answer, err := c.s.main.Diagnose(ctx, &backendv1.DiagnoseRequest{})
	if err != nil {
		return wire(err)
	}
	if len(answer.GetChecks()) == 0 {
		return errors.New("no check is reported")
	}
	for _, one := range answer.GetChecks() {
		if one.GetName() == "" || (!one.GetOk() && one.GetRemedy() == "") {
			return fmt.Errorf("check %q, ok %v, has no name or no remedy", one.GetName(), one.GetOk())
		}
	}
	return nil
}
