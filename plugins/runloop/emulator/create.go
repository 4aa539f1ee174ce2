package emulator

import (
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
)

// The bounds of launch parameters.
const (
	maxKeepAlive   = 172800
	maxCPU         = 16
	maxMemory      = 64
	maxDisk        = 64
	maxHookMs      = 60000
	minMemoryRatio = 2
	maxMemoryRatio = 8
)

// checkLaunch refuses launch parameters that the service refuses, and fills in what it fills in.
func checkLaunch(l *api.LaunchParameters) error {
	if l.ResourceSizeRequest == nil {
		l.ResourceSizeRequest = pointer(api.SMALL)
	}
	if l.Architecture == nil {
		l.Architecture = pointer(api.X8664)
	}
	if !l.ResourceSizeRequest.Valid() {
		return badRequest("Invalid resource_size_request: %s", *l.ResourceSizeRequest)
	}
	if !l.Architecture.Valid() {
		return badRequest("Invalid architecture: %s", *l.Architecture)
	}
	if t := l.ProvisioningTier; t != nil && *t != "standard" && *t != "flex" {
		return badRequest("Invalid provisioning_tier: %s", *t)
	}
	if k := l.KeepAliveTimeSeconds; k != nil && (*k < 1 || *k > maxKeepAlive) {
		return badRequest("keep_alive_time_seconds must be between 1 and %d", maxKeepAlive)
	}
	if u := l.UserParameters; u != nil && (u.Username == "" || u.UID < 0 || strings.ContainsAny(u.Username, ":/ \n")) {
		return badRequest("user_parameters need a username and a uid that is not negative")
	}
	if err := checkCustom(*l); err != nil {
		return err
	}
	return checkLifecycle(l)
}

func pointer[T any](v T) *T { return &v }

// checkCustom checks the sizes that CUSTOM_SIZE alone may have.
func checkCustom(l api.LaunchParameters) error {
	given := l.CustomCPUCores != nil || l.CustomGbMemory != nil || l.CustomDiskSize != nil
	if *l.ResourceSizeRequest != api.CUSTOMSIZE {
		if given {
			return badRequest("custom_cpu_cores, custom_gb_memory and custom_disk_size need resource_size_request CUSTOM_SIZE")
		}
		return nil
	}
	even := func(n float64, limit float64) bool { return n > 0 && n <= limit && math.Mod(n, 2) == 0 }
	if d := l.CustomDiskSize; d != nil && !even(float64(*d), maxDisk) {
		return badRequest("custom_disk_size must be a multiple of 2 up to %d", maxDisk)
	}
	if c := l.CustomCPUCores; c != nil && *c != 0.5 && *c != 1 && !even(float64(*c), maxCPU) {
		return badRequest("custom_cpu_cores must be 0.5, 1 or a multiple of 2 up to %d", maxCPU)
	}
	if m := l.CustomGbMemory; m != nil && *m != 1 && !even(float64(*m), maxMemory) {
		return badRequest("custom_gb_memory must be 1 or a multiple of 2 up to %d", maxMemory)
	}
	if l.CustomCPUCores != nil && l.CustomGbMemory != nil {
		ratio := float64(*l.CustomGbMemory) / float64(*l.CustomCPUCores)
		if ratio < minMemoryRatio || ratio > maxMemoryRatio {
			return badRequest("custom_gb_memory must be 2 to 8 times custom_cpu_cores")
		}
	}
	return nil
}

// checkLifecycle makes the two places of the idle policy say the same.
func checkLifecycle(l *api.LaunchParameters) error {
	idle := l.AfterIdle
	if lc := l.Lifecycle; lc != nil {
		if lc.AfterIdle != nil {
			if idle != nil && *idle != *lc.AfterIdle {
				return badRequest("after_idle and lifecycle.after_idle must be equal")
			}
			idle = lc.AfterIdle
		}
		if h := lc.LifecycleHooks; h != nil && h.SuspendDeadlineMs != nil && (*h.SuspendDeadlineMs < 0 || *h.SuspendDeadlineMs > maxHookMs) {
			return badRequest("suspend_deadline_ms must be at most %d", maxHookMs)
		}
	}
	if idle == nil {
		return nil
	}
	if idle.IdleTimeSeconds < 1 {
		return badRequest("idle_time_seconds must be positive")
	}
	if idle.OnIdle != "shutdown" && idle.OnIdle != "suspend" {
		return badRequest("Invalid on_idle: %s", idle.OnIdle)
	}
	l.AfterIdle = idle
	return nil
}

// create makes a devbox and lets it boot.
func (s *Server) create(r *http.Request) (*devbox, error) {
	params, err := decode[api.DevboxCreateParameters](r)
	if err != nil {
		return nil, err
	}
	tunnel := tunnelRequest{}
	if t := params.Tunnel; t != nil {
		tunnel = tunnelRequest{AuthMode: (*string)(t.AuthMode), HTTPKeepAlive: t.HTTPKeepAlive, WakeOnHTTP: t.WakeOnHTTP}
		if err := tunnel.check(); err != nil {
			return nil, err
		}
	}
	d := s.newDevbox(params)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(r, d); err != nil {
		return nil, err
	}
	if params.Tunnel != nil {
		s.give(d, tunnel)
	}
	return d, nil
}

// enter lets a new devbox be known and boot. The server's lock is held.
func (s *Server) enter(r *http.Request, d *devbox) error {
	if err := s.admit(r, d); err != nil {
		d.end()
		return err
	}
	d.status = provisioning
	if t := d.launch.ProvisioningTier; t != nil && *t == "flex" {
		d.status = queued
	}
	d.transitions = []transition{{Status: d.status, TimeMs: d.created}}
	s.state.devboxes.add(d.id, d)
	s.work.Go(func() { s.boot(d, true) })
	return nil
}

// admit checks what a devbox is made of and draws its faults. The server's lock is held.
func (s *Server) admit(r *http.Request, d *devbox) error {
	if len(s.chaos.at(r.Method, r.URL.Path, FaultQuota)) > 0 || s.config.Quota > 0 && s.alive() >= s.config.Quota {
		f := failure(http.StatusTooManyRequests, "quota_exceeded", "Quota exceeded: the account may not run more devboxes")
		f.Retry = "false"
		return f
	}
	if d.params.LaunchParameters != nil {
		d.launch = *d.params.LaunchParameters
	}
	if err := s.findSource(d); err != nil {
		return err
	}
	if err := checkLaunch(&d.launch); err != nil {
		return err
	}
	if id := d.launch.NetworkPolicyID; id != nil && s.record("network_policies", *id) == nil {
		return badRequest("Network policy %s not found", *id)
	}
	if err := checkMounts(d.params); err != nil {
		return err
	}
	if err := s.makeEnv(d); err != nil {
		return err
	}
	for _, f := range s.chaos.at(r.Method, r.URL.Path, FaultSlowBoot, FaultFailedBoot, FaultEvict) {
		s.state.stats.Faults++
		switch f.Kind {
		case FaultSlowBoot:
			d.faults.slow += f.Delay
		case FaultFailedBoot:
			d.faults.fails = true
		case FaultEvict:
			d.faults.evicts = &f
		}
	}
	return nil
}

func (s *Server) alive() int {
	n := 0
	for _, d := range s.state.devboxes.list() {
		if !d.status.terminal() {
			n++
		}
	}
	return n
}

// findSource resolves the one thing that a devbox may be made from.
func (s *Server) findSource(d *devbox) error {
	p := d.params
	given := 0
	for _, from := range []*string{p.BlueprintID, p.BlueprintName, p.SnapshotID} {
		if from != nil && *from != "" {
			given++
		}
	}
	if given > 1 {
		return badRequest("Only one of blueprint_id, blueprint_name and snapshot_id may be given")
	}
	if id := p.SnapshotID; id != nil && *id != "" {
		snap, ok := s.state.snapshots.byID[*id]
		if !ok || snap.status != snapshotComplete {
			return badRequest("Snapshot %s not found", *id)
		}
		d.snapshotID, d.source = id, snap.disk
		return nil
	}
	var b *blueprint
	switch {
	case p.BlueprintID != nil && *p.BlueprintID != "":
		if b = s.state.blueprints.byID[*p.BlueprintID]; b == nil || b.deleted {
			return badRequest("Blueprint %s not found", *p.BlueprintID)
		}
	case p.BlueprintName != nil && *p.BlueprintName != "":
		if b = s.newestBlueprint(*p.BlueprintName); b == nil {
			return badRequest("Blueprint %s not found", *p.BlueprintName)
		}
	default:
		return nil
	}
	if b.status != blueprintComplete {
		return badRequest("Blueprint %s is not built: it is in state %s", b.id, b.status)
	}
	d.blueprintID, d.source, d.env = &b.id, b.disk, slices.Clone(b.env)
	d.launch = inherit(d.launch, b.params.LaunchParameters)
	return nil
}

// inherit fills what a devbox does not say with what its blueprint says.
func inherit(own api.LaunchParameters, from *api.LaunchParameters) api.LaunchParameters {
	if from == nil {
		return own
	}
	if own.ResourceSizeRequest == nil {
		own.ResourceSizeRequest = from.ResourceSizeRequest
		own.CustomCPUCores, own.CustomGbMemory, own.CustomDiskSize = from.CustomCPUCores, from.CustomGbMemory, from.CustomDiskSize
	}
	if own.Architecture == nil {
		own.Architecture = from.Architecture
	}
	if own.UserParameters == nil {
		own.UserParameters = from.UserParameters
	}
	if own.KeepAliveTimeSeconds == nil {
		own.KeepAliveTimeSeconds = from.KeepAliveTimeSeconds
	}
	if own.AfterIdle == nil && own.Lifecycle == nil {
		own.AfterIdle, own.Lifecycle = from.AfterIdle, from.Lifecycle
	}
	if own.NetworkPolicyID == nil {
		own.NetworkPolicyID = from.NetworkPolicyID
	}
	if len(own.LaunchCommands) == 0 {
		own.LaunchCommands = from.LaunchCommands
	}
	return own
}

// makeEnv collects the environment of every command: variables, secrets and what gateways give. The server's lock is held.
func (s *Server) makeEnv(d *devbox) error {
	for name, value := range d.params.EnvironmentVariables {
		d.env = append(d.env, name+"="+value)
	}
	for name, of := range d.params.Secrets {
		secret := s.secret(of)
		if secret == nil {
			return badRequest("Secret %s not found", of)
		}
		d.env = append(d.env, name+"="+secret.value)
	}
	d.env = append(d.env, "DEVBOX_ID="+d.id, "RUNLOOP_DEVBOX_ID="+d.id)
	return s.makeGateways(d)
}

func (s *Server) makeGateways(d *devbox) error {
	for prefix, spec := range d.params.Gateways {
		gateway, secret := s.record("gateway_configs", spec.Gateway), s.secret(spec.Secret)
		if gateway == nil || secret == nil {
			return badRequest("Gateway %s or secret %s not found", spec.Gateway, spec.Secret)
		}
		if d.gateways == nil {
			d.gateways = map[string]any{}
		}
		d.gateways[prefix] = map[string]any{"gateway_config_id": gateway.id, "secret_id": secret.id}
		d.env = append(d.env, prefix+"_URL=http://"+s.apiAt.String()+"/gateway/"+gateway.id, prefix+"=gws_"+randomText(base62, 2*idLength))
	}
	for name, spec := range d.params.Mcp {
		config, secret := s.record("mcp_configs", spec.McpConfig), s.secret(spec.Secret)
		if config == nil || secret == nil {
			return badRequest("MCP config %s or secret %s not found", spec.McpConfig, spec.Secret)
		}
		if d.mcp == nil {
			d.mcp = map[string]any{}
			d.env = append(d.env, "RL_MCP_URL=http://"+s.apiAt.String()+"/mcp")
		}
		d.mcp[name] = map[string]any{"mcp_config_id": config.id, "secret_id": secret.id}
		d.env = append(d.env, name+"=gws_"+randomText(base62, 2*idLength))
	}
	return nil
}

func (s *Server) diskOf(kind, id string) string {
	return filepath.Join(s.folder.path, kind, id, "disk")
}
