package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// endpoint reads endpoint.json and the key.
func (d *daemon) endpoint() (url, sandboxURL, key string) {
	d.t.Helper()
	var e struct {
		URL        string `json:"url"`
		SandboxURL string `json:"sandbox_url"`
		KeyFile    string `json:"key_file"`
	}
	text, err := os.ReadFile(filepath.Join(d.dir, "data", "endpoint.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		d.t.Fatal(err)
	}
	secret, err := os.ReadFile(e.KeyFile)
	if err != nil {
		d.t.Fatal(err)
	}
	return e.URL, e.SandboxURL, strings.TrimSpace(string(secret))
}

// ask sends a request and returns the status and the body.
func ask(t *testing.T, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestTheAPISpeaksJSON(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	url, sandboxURL, key := d.endpoint()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 401} {
		if code, body := ask(t, http.MethodGet, url+path, ""); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	create := url + "/openhands.runtime.v1.RuntimeService/CreateRuntime"
	if code, _ := ask(t, http.MethodPost, create, "{}"); code != http.StatusUnauthorized {
		t.Errorf("without a key: %d", code)
	}
	if code, _ := ask(t, http.MethodPost, create, "{}", "X-API-Key", key, "Origin", "https://evil.example"); code != http.StatusForbidden {
		t.Errorf("from a foreign page: %d", code)
	}
	code, body := ask(t, http.MethodPost, create, `{"sid":"json","wait":true}`, "X-API-Key", key)
	var created struct {
		Runtime struct {
			ID         string `json:"id"`
			URL        string `json:"url"`
			SessionKey string `json:"sessionKey"`
		} `json:"runtime"`
	}
	if err := json.Unmarshal([]byte(body), &created); code != 200 || err != nil {
		t.Fatalf("%d %s", code, body)
	}
	r := created.Runtime
	if r.URL != sandboxURL+"/"+r.ID {
		t.Errorf("url %s", r.URL)
	}
	payload := base64.StdEncoding.EncodeToString([]byte(`{"argv":["tr","a-z","A-Z"],"stdin":true}`))
	stdin := base64.StdEncoding.EncodeToString([]byte("hello"))
	code, body = ask(t, http.MethodPost, url+"/openhands.runtime.v1.ActionService/RunAction", fmt.Sprintf(
		`{"runtimeId":%q,"stdin":%q,"action":{"kind":"process","payload":%q}}`, r.ID, stdin, payload), "Authorization", "Bearer "+key)
	if code != 200 || !strings.Contains(body, base64.StdEncoding.EncodeToString([]byte("HELLO"))) {
		t.Errorf("%d %s", code, body)
	}
	code, body = ask(t, http.MethodPost, url+"/openhands.runtime.v1.ActionService/RunAction",
		fmt.Sprintf(`{"runtimeId":%q,"action":{"kind":"fly"}}`, r.ID), "X-API-Key", key)
	if code != http.StatusBadRequest || !strings.Contains(body, "fly") {
		t.Errorf("an unknown kind: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodPut, url+"/v1/runtimes/"+r.ID+"/files?path=f&upload=u&offset=0&final=true", "text", "X-API-Key", key); code/100 != 2 {
		t.Errorf("upload: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, url+"/v1/runtimes/"+r.ID+"/files?path=f", "", "X-API-Key", key); code != 200 || body != "text" {
		t.Errorf("download: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, url+"/metrics", "", "X-API-Key", key); code != 200 || !strings.Contains(body, "openhands_rt_action_duration_seconds") {
		t.Errorf("metrics: %d %s", code, body)
	}
}

func TestPortsAreReachedWithTheSessionKeyAlone(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start")
	server := `import http.server, json
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps(dict(path=self.path, headers=sorted(k.lower() for k in self.headers))).encode())
    def log_message(self, *a): pass
s = http.server.HTTPServer(("127.0.0.1", 0), H)
print(s.server_port, flush=True)
s.serve_forever()`
	d.must("exec", "--runtime", id, "--id", "server", "--detach", "--", "python3", "-c", server)
	port := firstLine(d, "server")
	var shown struct {
		URL        string `json:"url"`
		SessionKey string `json:"session_key"`
		Camel      string `json:"sessionKey"`
	}
	if err := json.Unmarshal([]byte(d.must("runtimes", "show", id, "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	_, _, key := d.endpoint()
	url := shown.URL + "/ports/" + port + "/a?b=c"
	if code, _ := ask(t, http.MethodGet, url, "", "X-API-Key", key); code != http.StatusUnauthorized {
		t.Errorf("with the API key alone: %d", code)
	}
	code, body := ask(t, http.MethodGet, url, "", "X-Session-API-Key", shown.SessionKey+shown.Camel, "X-API-Key", key, "Authorization", "Bearer "+key)
	if code != 200 || !strings.Contains(body, `"/a?b=c"`) {
		t.Fatalf("%d %s", code, body)
	}
	for _, name := range []string{"authorization", "x-api-key", "x-session-api-key"} {
		if strings.Contains(body, `"`+name+`"`) {
			t.Errorf("%s reached the sandbox: %s", name, body)
		}
	}
	d.must("actions", "interrupt", "server", "--level", "kill")
}

// firstLine waits for an action's output, and returns its first line; empty if it ends without any.
func firstLine(d *daemon, action string) string {
	url, _, key := d.endpoint()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, url+"/openhands.runtime.v1.ActionService/AttachAction",
		strings.NewReader(envelope(fmt.Sprintf(`{"actionId":%q}`, action))))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("X-API-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, head); err != nil {
			return ""
		}
		body := make([]byte, int(head[1])<<24|int(head[2])<<16|int(head[3])<<8|int(head[4]))
		if _, err := io.ReadFull(resp.Body, body); err != nil {
			return ""
		}
		var ev struct {
			Output struct {
				Data []byte `json:"data"`
			} `json:"output"`
		}
		if json.Unmarshal(body, &ev) == nil && len(ev.Output.Data) > 0 {
			line, _, _ := strings.Cut(string(ev.Output.Data), "\n")
			return line
		}
	}
}

// envelope frames a message of a Connect stream.
func envelope(message string) string {
	n := len(message)
	return string([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + message
}

func TestTheAPISpeaksGRPC(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	url, _, key := d.endpoint()
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{
		Service: "openhands.runtime.v1.RuntimeService",
	})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	list := func(ctxKey string) (string, error) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+ctxKey)
		stream, err := reflection.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return "", err
		}
		if err := stream.Send(&reflection.ServerReflectionRequest{
			MessageRequest: &reflection.ServerReflectionRequest_ListServices{},
		}); err != nil {
			return "", err
		}
		answer, err := stream.Recv()
		return fmt.Sprint(answer.GetListServicesResponse()), err
	}
	if services, err := list(key); err != nil || !strings.Contains(services, "openhands.runtime.v1.ActionService") {
		t.Errorf("reflection: %s, %v", services, err)
	}
	if _, err := list("wrong"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("reflection with a wrong key: %v", err)
	}
}
