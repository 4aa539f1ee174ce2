package config

import (
	"slices"
	"time"
)

// within is the range of a number.
type within struct {
	path     string
	value    float64
	from, to float64
}

func (c *Config) checkNumbers(f *findings) {
	l, s := c.Limits, c.Store
	const many = 1 << 20
	for _, w := range []within{
		{"limits.max_runtimes", float64(l.MaxRuntimes), 1, many},
		{"limits.queue", float64(l.Queue), 0, many},
		{"limits.processes", float64(l.Processes), 1, many},
		{"limits.transfers", float64(l.Transfers), 1, many},
		{"limits.subscribers", float64(l.Subscribers), 1, many},
		{"limits.subscriber_lag", float64(l.SubscriberLag), 1, many},
		{"store.replicas", float64(s.Replicas), 1, 5},
		{"store.retention.events_count", float64(s.Retention.EventsCount), 1, 1 << 40},
		{"log.max_files", float64(c.Log.MaxFiles), 1, 1000},
	} {
		w.check(f)
	}
	c.checkSizes(f)
	c.checkDurations(f)
}

func (w within) check(f *findings) {
	if w.value < w.from || w.value > w.to {
		f.add(w.path, "choose one in the range", "%v is not from %v to %v", w.value, w.from, w.to)
	}
}

func (c *Config) checkSizes(f *findings) {
	r := c.Store.Retention
	for _, s := range []struct {
		path     string
		value    Size
		from, to Size
	}{
		// The contracts speak of 8 MiB: a smaller bound would break them.
		{"limits.max_message", c.Limits.MaxMessage, 8 * MiB, 64 * MiB},
		{"store.retention.actions_size", r.ActionsSize, MiB, 1024 * GiB},
		{"store.retention.runtimes_size", r.RuntimesSize, MiB, 1024 * GiB},
		{"store.retention.events_size", r.EventsSize, MiB, 1024 * GiB},
		{"log.max_size", c.Log.MaxSize, 64 * KiB, 16 * GiB},
	} {
		if s.value < s.from || s.value > s.to {
			f.add(s.path, "choose one in the range", "%s is not from %s to %s", s.value, s.from, s.to)
		}
	}
}

func (c *Config) checkDurations(f *findings) {
	t, r := c.Timeouts, c.Store.Retention
	const long = 30 * day
	for _, d := range []struct {
		path     string
		value    Duration
		from, to time.Duration
	}{
		{"lease", c.Lease, time.Second, long},
		{"timeouts.building", t.Building, time.Second, long},
		{"timeouts.starting", t.Starting, time.Second, long},
		{"timeouts.started", t.Started, time.Second, long},
		{"timeouts.setting_up_workspace", t.SettingUpWorkspace, time.Second, long},
		{"timeouts.setting_up_git_hooks", t.SettingUpGitHooks, time.Second, long},
		{"timeouts.disconnected", t.Disconnected, time.Second, long},
		{"timeouts.connect", t.Connect, time.Second, long},
		{"timeouts.call", t.Call, 100 * time.Millisecond, time.Hour},
		{"timeouts.pause", t.Pause, time.Second, long},
		{"timeouts.close", t.Close, time.Second, long},
		{"timeouts.plugin_start", t.PluginStart, time.Second, time.Hour},
		{"timeouts.shutdown", t.Shutdown, time.Second, time.Hour},
		{"store.retention.actions", r.Actions, time.Minute, 3650 * day},
		{"store.retention.runtimes", r.Runtimes, time.Minute, 3650 * day},
		{"store.retention.events", r.Events, time.Minute, 3650 * day},
	} {
		if d.value.Std() < d.from || d.value.Std() > d.to {
			f.add(d.path, "choose one in the range", "%s is not from %s to %s", d.value, Duration(d.from), Duration(d.to))
		}
	}
}

func (c *Config) checkLog(f *findings) {
	levels := []string{"trace", "debug", "info", "warn", "error", "off"}
	for component, level := range c.Log.Levels {
		if !slices.Contains(levels, level) {
			f.add(join("log.levels", component), "use one of trace, debug, info, warn, error, off", "%q is no level", level)
		}
	}
}

func (r Recovery) check(f *findings) {
	for _, w := range []within{
		{"recovery.network.retries", float64(r.Network.Retries), 0, 31},
		{"recovery.network.factor", r.Network.Factor, 1, 100},
		{"recovery.network.jitter", r.Network.Jitter, 0, 1},
		{"recovery.timeout.retries", float64(r.Timeout.Retries), 0, 31},
		{"recovery.timeout.factor", r.Timeout.Factor, 1, 100},
		{"recovery.authentication.retries", float64(r.Authentication.Retries), 0, 31},
	} {
		w.check(f)
	}
	if r.Network.Delay <= 0 || r.Network.Delay > r.Network.MaxDelay {
		f.add("recovery.network.delay", "choose one above 0s and not above max_delay", "%s does not fit a max_delay of %s", r.Network.Delay, r.Network.MaxDelay)
	}
}
