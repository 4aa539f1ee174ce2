package spawn

// Spec is what the agent is told at its start, as sdk/agent/boot reads it.
type Spec struct {
	Schema int `json:"schema"`
	// Socket is where it serves; StateDir where it keeps its records.
	Socket   string `json:"socket"`
	StateDir string `json:"state_dir"`
	// Workspace and Home as the agent sees them.
	Workspace  string `json:"workspace"`
	Home       string `json:"home"`
	Username   string `json:"username"`
	SandboxID  string `json:"sandbox_id"`
	RuntimeID  string `json:"runtime_id"`
	Generation uint64 `json:"generation"`
	Nonce      string `json:"nonce"`
	Credential string `json:"credential"`
	// Env is the environment of everything that it starts, beside HOME, USER, LOGNAME and PATH.
	Env map[string]string `json:"env,omitempty"`
	// Features that the runtime asked for, and the interpreter for kernels.
	Features []string `json:"features,omitempty"`
	Python   string   `json:"python,omitempty"`
	// Lease is a Go duration.
	Lease string `json:"lease"`
	// Cgroup is the v2 cgroup of the tree; LimitGroups the v1 cgroups for it.
	Cgroup      string   `json:"cgroup,omitempty"`
	LimitGroups []string `json:"limit_groups,omitempty"`
	LogFile     string   `json:"log_file,omitempty"`
	ReadyFD     int      `json:"ready_fd"`
}

// SpecSchema is the number of Spec's schema.
const SpecSchema = 1

// ReadyFD is the descriptor at which an agent says that it serves.
const ReadyFD = readyFD
