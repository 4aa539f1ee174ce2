// Package config is the Runloop backend's configuration: one struct, one validation, one schema.
package config

import (
	"encoding/json"
)

// The modes of a sandbox: what serves its actions.
const (
	// AgentOurs: the agent of this project is put into the devbox.
	AgentOurs = "openhands-rt"
	// AgentNone: nothing is put into it; the API's own executions and files serve.
	AgentNone = "none"
	// AgentOpenHands: the image has OpenHands' own action server.
	AgentOpenHands = "openhands"
)

// APIKey is the name of the credential that the backend needs.
const APIKey = "api_key"

// Config is what an operator can say. Every key may be left out.
type Config struct {
	BaseURL     string `json:"base_url,omitempty" jsonschema:"default=https://api.runloop.ai,description=Address of the API. Default: $RUNLOOP_BASE_URL or the real one."`
	TunnelURL   string `json:"tunnel_url,omitempty" jsonschema:"default=https://{port}-{key}.tunnel.runloop.ai,description=Address of a port of a devbox with {port} and {key} in it. Default: $RUNLOOP_TUNNEL_TEMPLATE or the one that belongs to base_url."`
	TunnelAuth  string `json:"tunnel_auth,omitempty" jsonschema:"enum=authenticated,enum=open,default=authenticated,description=Whether the tunnel asks for its token. An open one can be opened by a browser; the agent and VSCode ask for their own secrets either way."`
	Agent       string `json:"agent,omitempty" jsonschema:"enum=openhands-rt,enum=none,enum=openhands,default=openhands-rt,description=What serves the actions: the agent that is put into the devbox; nothing but the API itself; or the action server that the image has."`
	AgentBinary Agents `json:"agent_binary,omitzero" jsonschema:"description=Programs of the agent by architecture. Default: openhands-rt-agent or openhands-rt beside the plugin."`
	AgentPort   *int   `json:"agent_port,omitempty" jsonschema:"default=4444,minimum=0,maximum=65535,description=Port of the agent in the devbox. 0 takes a free one."`
	AgentStart  string `json:"agent_start,omitempty" jsonschema:"description=With agent openhands: shell command that starts the action server on the port $PORT with the key $SESSION_API_KEY."`

	BlueprintID   string `json:"blueprint_id,omitempty" jsonschema:"description=Blueprint of every devbox whose client names none."`
	BlueprintName string `json:"blueprint_name,omitempty" jsonschema:"description=The newest build of this name."`
	SnapshotID    string `json:"snapshot_id,omitempty" jsonschema:"description=Disk snapshot that devboxes begin with."`
	// Dockerfile makes the blueprint of BlueprintName where there is none yet.
	Dockerfile string `json:"dockerfile,omitempty" jsonschema:"description=Dockerfile of the blueprint blueprint_name: it is built when there is none of that name."`

	Size         string  `json:"size,omitempty" jsonschema:"enum=X_SMALL,enum=SMALL,enum=MEDIUM,enum=LARGE,enum=X_LARGE,enum=XX_LARGE,enum=CUSTOM_SIZE,default=LARGE,description=Size of a devbox."`
	CPUCores     float32 `json:"cpu_cores,omitempty" jsonschema:"description=Processors of CUSTOM_SIZE: 0.5 or 1 or an even number up to 16."`
	MemoryGB     int32   `json:"memory_gb,omitempty" jsonschema:"description=Memory of CUSTOM_SIZE in GiB: 1 or an even number up to 64."`
	DiskGB       int32   `json:"disk_gb,omitempty" jsonschema:"description=Disk of CUSTOM_SIZE in GiB: an even number from 2 to 64."`
	Architecture string  `json:"architecture,omitempty" jsonschema:"enum=x86_64,enum=arm64,default=x86_64,description=Processor architecture."`
	Tier         string  `json:"provisioning_tier,omitempty" jsonschema:"enum=standard,enum=flex,description=flex devboxes may wait in a queue and may be evicted."`

	Env             map[string]string `json:"env,omitempty" jsonschema:"description=Environment of everything in a devbox; a client's own comes after it."`
	Secrets         map[string]string `json:"secrets,omitempty" jsonschema:"description=Variables of the environment by name\\, each with the name of a secret of the account."`
	Mounts          []json.RawMessage `json:"mounts,omitempty" jsonschema:"description=Mounts in the API's own words: objects with a type."`
	NetworkPolicyID string            `json:"network_policy_id,omitempty" jsonschema:"description=Network policy of every devbox."`
	LaunchCommands  []string          `json:"launch_commands,omitempty" jsonschema:"description=Commands that run at every start before anything else."`
	Entrypoint      string            `json:"entrypoint,omitempty" jsonschema:"description=Main program of a devbox; when it ends the devbox does."`
	Workspace       string            `json:"workspace,omitempty" jsonschema:"default=/workspace,description=Folder of the work in the devbox: absolute or relative to the home folder. It is made if need be; where it cannot be it is workspace in the home folder."`

	Lease     string     `json:"lease,omitempty" jsonschema:"default=10m,description=How long a devbox lives without a renewal when the client does not say; a duration such as 10m."`
	KeepAlive string     `json:"keep_alive,omitempty" jsonschema:"description=How long Runloop itself lets a devbox live without a renewal. Default: the lease and five minutes."`
	AfterIdle *AfterIdle `json:"after_idle,omitempty" jsonschema:"description=What Runloop does with an idle devbox. It takes the place of keep_alive."`

	VSCode *VSCode `json:"vscode,omitempty" jsonschema:"description=The VSCode server of the image. Without it there is none."`

	AttachToExisting *bool `json:"attach_to_existing,omitempty" jsonschema:"default=true,description=Whether a new runtime takes a devbox of its sid that was let go of and kept."`
	Retry            Retry `json:"retry,omitzero" jsonschema:"description=How often a request that failed in passing is sent again."`
}

// Agents are programs by architecture.
type Agents struct {
	X86  string `json:"x86_64,omitempty" jsonschema:"description=Path of the program for x86_64."`
	ARM  string `json:"arm64,omitempty" jsonschema:"description=Path of the program for arm64."`
	Path string `json:"in_devbox,omitempty" jsonschema:"description=Path of the program in the blueprint or snapshot. It is used if it is the same program to the byte."`
}

// AfterIdle is the API's own rule for idle devboxes.
type AfterIdle struct {
	IdleSeconds int    `json:"idle_seconds" jsonschema:"minimum=1,description=Seconds of idleness."`
	OnIdle      string `json:"on_idle" jsonschema:"enum=shutdown,enum=suspend,description=What happens then."`
}

// VSCode says how the image serves VSCode.
type VSCode struct {
	Port    int    `json:"port,omitempty" jsonschema:"default=4445,minimum=1,maximum=65535,description=Port on which it listens."`
	Command string `json:"command,omitempty" jsonschema:"description=Shell command that starts it on 0.0.0.0:$PORT with the token $TOKEN for the folder $FOLDER. Empty: the image starts it with the session key as its token."`
}

// Retry bounds the repeats of one request.
type Retry struct {
	Max      *int   `json:"max,omitempty" jsonschema:"default=5,minimum=0,maximum=20,description=Repeats of one request."`
	Delay    string `json:"delay,omitempty" jsonschema:"default=500ms,description=Wait before the first repeat; it doubles each time."`
	MaxDelay string `json:"max_delay,omitempty" jsonschema:"default=10s,description=Longest wait between two tries unless the API asks for more."`
}
