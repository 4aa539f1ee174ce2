package host

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/openhands-rt/openhands-rt/host/config"
)

// reload changes to a new config: backends, and what new runtimes get. The rest needs a restart, and the log says so.
func (h *host) reload(ctx context.Context, cfg *config.Config) {
	specs, err := h.specs(cfg)
	if err != nil {
		h.log.Error("the config was not reloaded", "error", err)
		return
	}
	if changed := needRestart(h.config(), cfg); len(changed) > 0 {
		h.log.Warn("some changes wait for a restart", "keys", changed)
	}
	h.setConfig(cfg)
	for _, err := range h.backends.apply(ctx, cfg.DefaultBackend, cfg.FallbackBackends, specs, h.inUse) {
		h.log.Error("a backend was not reloaded and goes on as it was", "error", err)
	}
	h.log.Info("config reloaded", "default_backend", cfg.DefaultBackend)
}

// needRestart names the top-level keys that differ and that only a restart takes in.
func needRestart(was, is *config.Config) []string {
	live := []string{"backends", "default_backend", "fallback_backends"}
	before, after := fields(was), fields(is)
	var changed []string
	for key, value := range after {
		if string(before[key]) != string(value) && !slices.Contains(live, key) {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	return changed
}

// fields are the top-level keys of a config with their values as JSON.
func fields(c *config.Config) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	data, err := json.Marshal(c)
	if err != nil || json.Unmarshal(data, &out) != nil {
		return out // a config is plain data: this cannot happen, and would only cost a warning
	}
	return out
}
