// Package config reads the daemon's configuration: defaults, then a YAML file, then OPENHANDS_RT_* variables, then flags, into one
// checked struct. An error names the key, where its value came from and what to do; all of them are reported at once, and an
// unknown key is one of them. Secrets are references, resolved when they are needed.
//
// It is the only package that sees koanf. The schema, the reference file and the docs are generated from the struct in fields.go.
package config

import (
	"time"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
)

// Default returns the configuration that holds where nothing is set. Paths and backends that depend on others are filled in by
// Load.
func Default() *Config {
	return &Config{
		Listen:        "127.0.0.1:7799",
		SandboxListen: "127.0.0.1:7800",
		Lease:         Duration(5 * time.Minute),
		OnDisconnect:  string(policy.Stay),
		Limits: Limits{
			MaxRuntimes: 500, Queue: 64, Processes: 64, Transfers: 16, Subscribers: 64, SubscriberLag: 1024, MaxMessage: 8 * MiB,
		},
		Timeouts: defaultTimeouts(),
		Store: Store{Replicas: 1, Retention: Retention{
			Actions: Duration(day), ActionsSize: 256 * MiB,
			Runtimes: Duration(7 * day), RuntimesSize: 256 * MiB,
			Events: Duration(7 * day), EventsCount: 200_000, EventsSize: 128 * MiB,
		}},
		Log:      Log{Level: "info", Format: "console", MaxSize: 64 * MiB, MaxFiles: 5},
		Metrics:  Metrics{Enabled: true},
		Recovery: defaultRecovery(),
	}
}

func defaultTimeouts() Timeouts {
	limit := func(s lifecycle.Status) Duration { return Duration(lifecycle.Limit(s)) }
	return Timeouts{
		Building:           limit(lifecycle.Building),
		Starting:           limit(lifecycle.Starting),
		Started:            limit(lifecycle.Started),
		SettingUpWorkspace: limit(lifecycle.SettingUpWorkspace),
		SettingUpGitHooks:  limit(lifecycle.SettingUpGitHooks),
		Disconnected:       limit(lifecycle.Disconnected),
		Connect:            Duration(40 * time.Minute),
		Call:               Duration(30 * time.Second),
		Pause:              Duration(2 * time.Minute),
		Close:              Duration(time.Minute),
		PluginStart:        Duration(30 * time.Second),
		Shutdown:           Duration(20 * time.Second),
	}
}

func defaultRecovery() Recovery {
	table := policy.Default()
	network, timeout, auth := table[policy.Network].Budget, table[policy.Timeout].Budget, table[policy.Authentication].Budget
	return Recovery{
		Network: NetworkBudget{
			Retries: network.Retries, Elapsed: Duration(network.Elapsed), Delay: Duration(network.Delay),
			MaxDelay: Duration(network.MaxDelay), Factor: network.Factor, Jitter: network.Jitter,
		},
		Timeout: TimeoutBudget{
			Retries: timeout.Retries, Elapsed: Duration(timeout.Elapsed), Factor: timeout.TimeoutFactor, Ceiling: Duration(timeout.TimeoutCeiling),
		},
		Authentication: AuthenticationBudget{Retries: auth.Retries},
	}
}

// Table returns the recovery policy with these budgets.
func (r Recovery) Table() policy.Table {
	table := policy.Default()
	table[policy.Network] = policy.Rule{Strategy: policy.Backoff, Budget: policy.Budget{
		Retries: r.Network.Retries, Elapsed: r.Network.Elapsed.Std(), Delay: r.Network.Delay.Std(),
		MaxDelay: r.Network.MaxDelay.Std(), Factor: r.Network.Factor, Jitter: r.Network.Jitter,
	}}
	table[policy.Timeout] = policy.Rule{Strategy: policy.LongerTimeout, Budget: policy.Budget{
		Retries: r.Timeout.Retries, Elapsed: r.Timeout.Elapsed.Std(), TimeoutFactor: r.Timeout.Factor, TimeoutCeiling: r.Timeout.Ceiling.Std(),
	}}
	table[policy.Authentication] = policy.Rule{Strategy: policy.RefreshCredential, Budget: policy.Budget{Retries: r.Authentication.Retries}}
	return table
}

// StatusLimit returns the configured limit of a status, zero for those that have none.
func (t Timeouts) StatusLimit(s lifecycle.Status) time.Duration {
	switch s {
	case lifecycle.Building:
		return t.Building.Std()
	case lifecycle.Starting:
		return t.Starting.Std()
	case lifecycle.Started:
		return t.Started.Std()
	case lifecycle.SettingUpWorkspace:
		return t.SettingUpWorkspace.Std()
	case lifecycle.SettingUpGitHooks:
		return t.SettingUpGitHooks.Std()
	case lifecycle.Disconnected:
		return t.Disconnected.Std()
	default:
		return 0
	}
}
