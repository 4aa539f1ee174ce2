package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestTheDefaultsAreThoseOfTheRealService(t *testing.T) {
	for _, raw := range []string{"", "{}", " {} "} {
		s, err := Parse([]byte(raw), none)
		if err != nil {
			t.Fatal(err)
		}
		address, path, err := s.Tunnel("k3y", 8080)
		if err != nil || address != "https://8080-k3y.tunnel.runloop.ai" || path != "" {
			t.Errorf("the tunnel is %q %q, %v", address, path, err)
		}
		if s.BaseURL != "https://api.runloop.ai" || s.TunnelAuth != "authenticated" || s.Agent != AgentOurs || s.Port != 4444 ||
			s.Size != "LARGE" || s.Architecture != "x86_64" || s.Workspace != "/workspace" || s.LeaseFor != 10*time.Minute || !s.Attach {
			t.Errorf("%+v", s)
		}
	}
}

// none is an environment without variables.
func none(string) string { return "" }

func TestAddressesOfTheEnvironment(t *testing.T) {
	env := func(name string) string {
		return map[string]string{"RUNLOOP_BASE_URL": "http://127.0.0.1:8085", "RUNLOOP_TUNNEL_TEMPLATE": "http://127.0.0.1:8086/{port}-{key}"}[name]
	}
	for raw, want := range map[string][2]string{
		`{}`:                                  {"http://127.0.0.1:8085", "http://127.0.0.1:8086/{port}-{key}"},
		`{"base_url":"https://api.x.pro"}`:    {"https://api.x.pro", "https://{port}-{key}.tunnel.x.pro"},
		`{"tunnel_url":"http://{port}{key}"}`: {"http://127.0.0.1:8085", "http://{port}{key}"},
	} {
		s, err := Parse([]byte(raw), env)
		if err != nil || s.BaseURL != want[0] || s.TunnelURL != want[1] {
			t.Errorf("%s: %s %s, %v", raw, s.BaseURL, s.TunnelURL, err)
		}
	}
}

func TestBadKeysAreNamed(t *testing.T) {
	for raw, field := range map[string]string{
		`[]`: "", `null`: "", `{`: "", `{} {}`: "", `"x"`: "",
		`{"bas_url":"x"}`:                                  "bas_url",
		`{"base_url":"ftp://x"}`:                           "base_url",
		`{"base_url":"https://u:p@x"}`:                     "base_url",
		`{"base_url":7}`:                                   "base_url",
		`{"tunnel_url":"https://x"}`:                       "tunnel_url",
		`{"tunnel_url":"{port}-{key}"}`:                    "tunnel_url",
		`{"tunnel_auth":"none"}`:                           "tunnel_auth",
		`{"agent":"theirs"}`:                               "agent",
		`{"size":"HUGE"}`:                                  "size",
		`{"size":"SMALL","cpu_cores":2,"memory_gb":4}`:     "size",
		`{"size":"CUSTOM_SIZE"}`:                           "size",
		`{"cpu_cores":3,"memory_gb":8}`:                    "cpu_cores",
		`{"cpu_cores":2,"memory_gb":3}`:                    "memory_gb",
		`{"cpu_cores":2,"memory_gb":32}`:                   "memory_gb",
		`{"cpu_cores":2,"memory_gb":8,"disk_gb":1}`:        "disk_gb",
		`{"architecture":"mips"}`:                          "architecture",
		`{"provisioning_tier":"gold"}`:                     "provisioning_tier",
		`{"blueprint_id":"a","snapshot_id":"b"}`:           "blueprint_id",
		`{"dockerfile":"FROM x"}`:                          "dockerfile",
		`{"env":{"a=b":"c"}}`:                              "env.a=b",
		`{"secrets":{"A":""}}`:                             "secrets.A",
		`{"mounts":[{}]}`:                                  "mounts",
		`{"lease":"soon"}`:                                 "lease",
		`{"lease":"-1s"}`:                                  "lease",
		`{"keep_alive":"72h"}`:                             "keep_alive",
		`{"after_idle":{"idle_seconds":5,"on_idle":"go"}}`: "after_idle",
		`{"agent_port":70000}`:                             "agent_port",
		`{"agent_start":"x"}`:                              "agent_start",
		`{"agent":"openhands"}`:                            "agent",
		`{"retry":{"max":99}}`:                             "retry.max",
		`{"retry":{"delay":"x"}}`:                          "retry.delay",
		`{"vscode":{"port":-1}}`:                           "vscode.port",
	} {
		_, err := Parse([]byte(raw), none)
		if !rterr.Is(err, rterr.ConfigInvalid) || rterr.From(err).Field != field {
			t.Errorf("%s: field %q, want %q: %v", raw, rterr.From(err).Field, field, err)
		}
	}
}

func TestGoodConfigs(t *testing.T) {
	s, err := Parse([]byte(`{"cpu_cores":0.5,"memory_gb":1,"disk_gb":4,"keep_alive":"1h","agent_port":0,"vscode":{},
		"tunnel_url":"http://127.0.0.1:8788/{port}-{key}/","retry":{"max":0,"delay":"20s"},"workspace":"w/../work",
		"mounts":[{"type":"object_mount","object_id":"obj_1","object_path":"/x"}],"attach_to_existing":false}`), none)
	if err != nil {
		t.Fatal(err)
	}
	address, path, _ := s.Tunnel("k", 1)
	if s.Size != "CUSTOM_SIZE" || s.Port != 0 || s.VSCode.Port != 4445 || s.Retries != 0 || s.RetryMax != 20*time.Second ||
		address != "http://127.0.0.1:8788" || path != "/1-k" || s.Workspace != "work" || s.Attach {
		t.Errorf("%+v, %s %s", s, address, path)
	}
	if got := s.KeepAliveOf(time.Minute); got != time.Hour {
		t.Errorf("keep-alive %v", got)
	}
}

func TestKeepAliveIsLongerThanTheLease(t *testing.T) {
	s, err := Parse(nil, none)
	if err != nil {
		t.Fatal(err)
	}
	for lease, want := range map[time.Duration]time.Duration{
		time.Second: 5*time.Minute + time.Second, time.Hour: 65 * time.Minute, 100 * time.Hour: 48 * time.Hour,
	} {
		if got := s.KeepAliveOf(lease); got != want {
			t.Errorf("%v: %v, want %v", lease, got, want)
		}
	}
}

func TestWhatAClientMaySay(t *testing.T) {
	s, err := Parse([]byte(`{"blueprint_name":"base","env":{"A":"b"},"size":"SMALL"}`), none)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := s.Merge([]byte(`{"snapshot_id":"snp_1","size":"LARGE"}`))
	if err != nil || merged.SnapshotID != "snp_1" || merged.BlueprintName != "" || merged.Size != "LARGE" || merged.Env["A"] != "b" {
		t.Errorf("%+v, %v", merged, err)
	}
	if s.BlueprintName != "base" {
		t.Error("the operator's own settings have changed")
	}
	for raw, field := range map[string]string{
		`[]`: "spec.options", `{"base_url":"http://x"}`: "spec.options.base_url", `{"size":"HUGE"}`: "spec.options.size",
		`{"secrets":{}}`: "spec.options.secrets", `{"entrypoint":"x"}`: "spec.options.entrypoint", `{"size":3}`: "spec.options.size",
	} {
		if _, err := s.Merge([]byte(raw)); !rterr.Is(err, rterr.InvalidArgument) || rterr.From(err).Field != field {
			t.Errorf("%s: field %q, want %q: %v", raw, rterr.From(err).Field, field, err)
		}
	}
}

func TestTheSchemaHasEveryKey(t *testing.T) {
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct {
			Description string `json:"description"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	for key, p := range schema.Properties {
		if !strings.HasSuffix(p.Description, ".") {
			t.Errorf("%s is described as %q", key, p.Description)
		}
	}
	if len(schema.Properties) < 30 {
		t.Errorf("%d keys", len(schema.Properties))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"size":"LARGE","tunnel_url":"http://{key}.x:{port}"}`))
	f.Add([]byte(`{"cpu_cores":1e30,"memory_gb":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Parse(raw, none)
		if err != nil {
			if !rterr.Is(err, rterr.ConfigInvalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, _, err := s.Tunnel("k", 80); err != nil {
			t.Fatalf("a tunnel URL that was taken: %v", err)
		}
	})
}
