package config

// This file is embedded: the comments on the fields are the descriptions in the JSON Schema, the reference file and the docs.

// Config is all that an operator can set. Load fills it, checked; nobody changes it afterwards.
type Config struct {
	// Folder for all that the daemon keeps. Empty: /var/lib/openhands-rt for root, else $XDG_STATE_HOME/openhands-rt, else ~/.local/state/openhands-rt.
	DataDir string `json:"data_dir"`
	// Address of the API, HOST:PORT; port 0 takes a free one, which data_dir/endpoint.json names.
	Listen string `json:"listen"`
	// Address under which sandboxes' own servers are reached, HOST:PORT. Never the origin of the API.
	SandboxListen string `json:"sandbox_listen"`
	// URL at which clients reach sandbox_listen, without a final slash: a proxy's, or this machine's as others see it. Empty: http:// and the address.
	SandboxURL string `json:"sandbox_url"`
	// Backend of runtimes that name none. Empty: the only one there is, or the one called local.
	DefaultBackend string `json:"default_backend"`
	// Backends, tried in this order, that take new runtimes when the default one has nothing left to give. Empty: none does.
	FallbackBackends []string `json:"fallback_backends"`
	// Sources of sandboxes, by a name of your choice. None at all: one called local, of the plugin local.
	Backends map[string]Backend `json:"backends"`
	// Folder in which plugins are looked for, after the folder of the openhands-rt binary and before PATH. Empty: none.
	PluginDir string `json:"plugin_dir"`
	// File with the API key, made at first start with mode 0600. Empty: data_dir/key.
	KeyFile string `json:"key_file"`
	// Names, besides the addresses listened on and localhost, that a request's Host header may have. "*.example.org" takes every sub-domain.
	AllowedHosts []string `json:"allowed_hosts"`
	// Origins of web pages that may call the API, as "https://app.example.org". Empty: none may.
	AllowedOrigins []string `json:"allowed_origins"`
	// How long a sandbox lives without a sign of life from the daemon. It is renewed after each third of this.
	Lease Duration `json:"lease"`
	// What becomes of a runtime whose sandbox is gone: disconnected (an error for somebody to decide on) or recreate (a new sandbox under the same id).
	OnDisconnect string `json:"on_disconnect" jsonschema:"enum=disconnected,enum=recreate"`
	// Bounds on what may run and wait at once.
	Limits Limits `json:"limits"`
	// How long things may take.
	Timeouts Timeouts `json:"timeouts"`
	// Where the daemon's state is kept.
	Store Store `json:"store"`
	// What is logged, and where to.
	Log Log `json:"log"`
	// Figures for Prometheus.
	Metrics Metrics `json:"metrics"`
	// How often failed calls to backends are tried again.
	Recovery Recovery `json:"recovery"`
}

// Backend is one source of sandboxes. Exactly one of plugin, command and address says where its plugin is.
type Backend struct {
	// Short name of the plugin: local stands for the binary openhands-rt-plugin-local.
	Plugin string `json:"plugin"`
	// Plugin binary by its path, and its arguments.
	Command []string `json:"command"`
	// Address of a plugin that runs already: unix:///path/to.sock or HOST:PORT.
	Address string `json:"address"`
	// SHA-256 of the plugin binary in hexadecimal; another binary is not started. Empty: any.
	SHA256 string `json:"sha256"`
	// Environment of the plugin, besides the little that every plugin gets. Not for secrets: see credentials.
	Env map[string]string `json:"env"`
	// Names of variables of the daemon's own environment that the plugin gets too.
	EnvAllow []string `json:"env_allow"`
	// Settings of the plugin, in its own words: openhands-rt plugins ls -o json shows their schema.
	Config map[string]any `json:"config"`
	// Secrets by the names under which the plugin asks for them, each a reference that is read when it is needed.
	Credentials map[string]Credential `json:"credentials"`
	// How long making a sandbox may take from beginning to end. 0s: timeouts.connect.
	ConnectTimeout Duration `json:"connect_timeout"`
}

// Credential says where a secret is read from: exactly one of env, file and command.
type Credential struct {
	// Variable of the daemon's environment.
	Env string `json:"env"`
	// File; one line end at its end does not count.
	File string `json:"file"`
	// Program that prints it, and its arguments; one line end at the end does not count.
	Command []string `json:"command"`
	// How long the program may take. 0s: ten seconds.
	Timeout Duration `json:"timeout"`
}

// Limits bounds what may run and wait at once.
type Limits struct {
	// Live runtimes of this daemon.
	MaxRuntimes int `json:"max_runtimes"`
	// Actions that may wait for their turn in one runtime.
	Queue int `json:"queue"`
	// Process actions that may run at once in one runtime.
	Processes int `json:"processes"`
	// File transfers at once in one runtime.
	Transfers int `json:"transfers"`
	// Readers that may follow the events of one runtime or the output of one action at once.
	Subscribers int `json:"subscribers"`
	// Events that a slow reader may lag behind before it is told that it missed some.
	SubscriberLag int `json:"subscriber_lag"`
	// Largest message of the API and of plugins.
	MaxMessage Size `json:"max_message"`
}

// Timeouts says how long things may take. The first six are the limits of the statuses of a runtime.
type Timeouts struct {
	// BUILDING_RUNTIME: preparing the environment.
	Building Duration `json:"building"`
	// STARTING_RUNTIME: starting the sandbox.
	Starting Duration `json:"starting"`
	// RUNTIME_STARTED: until the sandbox's agent answers.
	Started Duration `json:"started"`
	// SETTING_UP_WORKSPACE: setting up the workspace.
	SettingUpWorkspace Duration `json:"setting_up_workspace"`
	// SETTING_UP_GIT_HOOKS: setting up git hooks.
	SettingUpGitHooks Duration `json:"setting_up_git_hooks"`
	// ERROR_RUNTIME_DISCONNECTED: looking for a lost sandbox.
	Disconnected Duration `json:"disconnected"`
	// Making a sandbox, from beginning to end.
	Connect Duration `json:"connect"`
	// One call to a plugin or agent that is not a stream, the first time; retries may get more.
	Call Duration `json:"call"`
	// Pausing or resuming a sandbox.
	Pause Duration `json:"pause"`
	// Closing a sandbox.
	Close Duration `json:"close"`
	// Starting a plugin, until it has said who it is.
	PluginStart Duration `json:"plugin_start"`
	// Stopping the daemon: what runs by then is left to the next start.
	Shutdown Duration `json:"shutdown"`
}

// Store says where the daemon's state is kept.
type Store struct {
	// NATS server with JetStream to use in place of the embedded one: nats://HOST:PORT. Empty: embedded, under data_dir/store.
	URL string `json:"url"`
	// File with the credentials for that server (.creds).
	CredentialsFile string `json:"credentials_file"`
	// Copies of everything on an external cluster.
	Replicas int `json:"replicas"`
	// Make every write wait for the disk. Off, a loss of power (not a crash) can cost the last two minutes.
	SyncAlways bool `json:"sync_always"`
	// How much is kept, and for how long.
	Retention Retention `json:"retention"`
}

// Retention says how much is kept, and for how long.
type Retention struct {
	// Records of finished actions.
	Actions Duration `json:"actions"`
	// Size of the records of actions; the oldest go first.
	ActionsSize Size `json:"actions_size"`
	// Records of stopped runtimes.
	Runtimes Duration `json:"runtimes"`
	// Size of the records of runtimes; beyond it new runtimes are refused.
	RuntimesSize Size `json:"runtimes_size"`
	// Events.
	Events Duration `json:"events"`
	// Number of events.
	EventsCount int `json:"events_count"`
	// Size of the events; the oldest go first.
	EventsSize Size `json:"events_size"`
}

// Log says what is logged, and where to.
type Log struct {
	// Lowest level that is logged.
	Level string `json:"level" jsonschema:"enum=trace,enum=debug,enum=info,enum=warn,enum=error,enum=off"`
	// Levels of single components, as "store: debug" or "plugin.local: trace".
	Levels map[string]string `json:"levels"`
	// Form of the lines.
	Format string `json:"format" jsonschema:"enum=console,enum=json"`
	// File to log to. Empty: standard error.
	File string `json:"file"`
	// Size at which a log file is put aside and a new one begun.
	MaxSize Size `json:"max_size"`
	// Number of files put aside that are kept.
	MaxFiles int `json:"max_files"`
}

// Metrics says whether there are figures for Prometheus.
type Metrics struct {
	// Serve /metrics on the API's address.
	Enabled bool `json:"enabled"`
}

// Recovery bounds the retries for each class of error.
type Recovery struct {
	// The way to a backend, or the backend for a moment: wait, longer each time, and try again.
	Network NetworkBudget `json:"network"`
	// No answer in time: try again with more time.
	Timeout TimeoutBudget `json:"timeout"`
	// A credential that is not accepted: read it again and try again.
	Authentication AuthenticationBudget `json:"authentication"`
}

// NetworkBudget bounds the retries after network errors.
type NetworkBudget struct {
	// Retries of one call.
	Retries int `json:"retries"`
	// Time from the first try to the start of the last.
	Elapsed Duration `json:"elapsed"`
	// Wait before the first retry.
	Delay Duration `json:"delay"`
	// Longest wait, unless the other side asks for more.
	MaxDelay Duration `json:"max_delay"`
	// What the wait grows by each time.
	Factor float64 `json:"factor"`
	// Share of the wait that is up to chance, from 0 to 1.
	Jitter float64 `json:"jitter"`
}

// TimeoutBudget bounds the retries after timeouts.
type TimeoutBudget struct {
	// Retries of one call.
	Retries int `json:"retries"`
	// Time from the first try to the start of the last.
	Elapsed Duration `json:"elapsed"`
	// What the timeout grows by each time.
	Factor float64 `json:"factor"`
	// Longest timeout.
	Ceiling Duration `json:"ceiling"`
}

// AuthenticationBudget bounds the retries after a refused credential.
type AuthenticationBudget struct {
	// Retries of one call.
	Retries int `json:"retries"`
}
