package service

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The beginnings of ids by which an image is told from a blueprint's name.
var (
	blueprintIDs = []string{"bpt_", "bp_"} //nolint:gochecknoglobals // constant
	snapshotIDs  = []string{"snp_"}        //nolint:gochecknoglobals // constant
)

// begin reads what a devbox begins with: "blueprint:NAME-OR-ID", "snapshot:ID", an id alone, or a blueprint's name.
func begin(spec *config.Settings, image, snapshot string) error {
	if snapshot != "" {
		image = "snapshot:" + snapshot
	}
	if image == "" {
		return nil
	}
	spec.BlueprintID, spec.BlueprintName, spec.SnapshotID, spec.Dockerfile = "", "", "", ""
	kind, name, found := strings.Cut(image, ":")
	switch {
	case found && kind == "snapshot" && name != "":
		spec.SnapshotID = name
	case found && kind == "blueprint" && name != "":
		blueprint(spec, name)
	case found:
		return rterr.Invalid("", "spec.image", "%q is neither blueprint:NAME, snapshot:ID nor a blueprint's name", image)
	case beginsWith(image, snapshotIDs):
		spec.SnapshotID = image
	default:
		blueprint(spec, image)
	}
	return nil
}

func blueprint(spec *config.Settings, name string) {
	if beginsWith(name, blueprintIDs) {
		spec.BlueprintID = name
		return
	}
	spec.BlueprintName = name
}

func beginsWith(text string, beginnings []string) bool {
	for _, b := range beginnings {
		if strings.HasPrefix(text, b) {
			return true
		}
	}
	return false
}

// limit asks for a size that has what a client's limits ask for. Runloop has no limit of processes.
func limit(spec *config.Settings, l *backendv1.Limits) error {
	const gib = 1 << 30
	if l.GetPids() > 0 {
		return unsupported("spec.limits.pids", "a devbox has no limit of processes")
	}
	if l.GetMemoryBytes() == 0 && l.GetCpuMillis() == 0 && l.GetDiskBytes() == 0 {
		return nil
	}
	cores := min(even(uint64(l.GetCpuMillis()), 1000), 16)
	memory := min(even(l.GetMemoryBytes(), gib), 64)
	switch {
	case cores == 0:
		cores = even(max(memory/8, 1), 1)
	case memory == 0:
		memory = cores * 4
	}
	spec.Size, spec.CPUCores = "CUSTOM_SIZE", float32(cores)
	spec.MemoryGB = int32(max(min(memory, 8*cores), 2*cores))              //nolint:gosec // at most 64
	spec.DiskGB = int32(min(even(max(l.GetDiskBytes(), 16*gib), gib), 64)) //nolint:gosec // at most 64
	return nil
}

// even is the number of units that hold so much: 0, 1, or an even one.
func even(amount, unit uint64) uint64 {
	n := (amount + unit - 1) / unit
	if n > 1 {
		n += n % 2
	}
	return n
}

// parameters are the request that makes the devbox.
func (j *job) parameters() (api.DevboxCreateParameters, error) {
	spec, name := &j.spec, j.req.GetSid()
	entrypoint := guardScript(spec.Entrypoint)
	env := maps.Clone(spec.Env)
	if env == nil {
		env = map[string]string{}
	}
	maps.Copy(env, j.req.GetSpec().GetEnv())
	p := api.DevboxCreateParameters{
		Name: &name, Entrypoint: &entrypoint, EnvironmentVariables: env, Secrets: spec.Secrets,
		Metadata:         j.set.labels(j.req, nil, time.Now().Add(j.lease())),
		LaunchParameters: j.launch(),
		BlueprintID:      optional(spec.BlueprintID), BlueprintName: optional(spec.BlueprintName), SnapshotID: optional(spec.SnapshotID),
	}
	for _, raw := range spec.Mounts {
		var m api.Mount
		if err := json.Unmarshal(raw, &m); err != nil {
			return p, rterr.Invalid("", "spec.options.mounts", "%v", err)
		}
		p.Mounts = append(p.Mounts, m)
	}
	return p, nil
}

func (j *job) launch() *api.LaunchParameters {
	spec := &j.spec
	size, arch := api.ResourceSize(spec.Size), api.Architecture(spec.Architecture)
	alive := int64(spec.KeepAliveOf(j.lease()).Seconds())
	l := &api.LaunchParameters{
		ResourceSizeRequest: &size, Architecture: &arch, KeepAliveTimeSeconds: &alive, LaunchCommands: spec.LaunchCommands,
		NetworkPolicyID: optional(spec.NetworkPolicyID),
	}
	if spec.Size == "CUSTOM_SIZE" {
		l.CustomCPUCores, l.CustomGbMemory = &spec.CPUCores, &spec.MemoryGB
		if spec.DiskGB > 0 {
			l.CustomDiskSize = &spec.DiskGB
		}
	}
	if spec.Tier != "" {
		tier := api.LaunchParametersProvisioningTier(spec.Tier)
		l.ProvisioningTier = &tier
	}
	if name := j.req.GetSpec().GetUsername(); name != "" {
		l.UserParameters = userOf(name)
	}
	if a := spec.AfterIdle; a != nil {
		l.Lifecycle = &api.LifecycleConfiguration{AfterIdle: &api.AfterIdle{
			IdleTimeSeconds: int32(a.IdleSeconds), OnIdle: api.AfterIdleOnIdle(a.OnIdle)}} //nolint:gosec // checked by the API
	}
	return l
}

// userOf asks for a user of a devbox: the API wants a uid with the name.
func userOf(name string) *api.UserParameters {
	uid := int32(1000)
	if name == "root" {
		uid = 0
	}
	return &api.UserParameters{Username: name, UID: uid}
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
