package emulator

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The kinds of Fault.
const (
	// FaultLatency lets a request wait for Delay before it is served.
	FaultLatency = "latency"
	// FaultRate answers 429 with Retry-After, Delay long.
	FaultRate = "429"
	// FaultError answers 500, 502, 503 or 504.
	FaultError = "5xx"
	// FaultDropBefore closes the connection before the request has had an effect, FaultDropAfter when it has had it.
	FaultDropBefore = "drop_before"
	FaultDropAfter  = "drop_after"
	// FaultExpiredKey answers 401.
	FaultExpiredKey = "expired_key"
	// FaultQuota refuses to create a devbox.
	FaultQuota = "quota"
	// FaultSlowBoot lets a devbox stay in provisioning for Delay longer, FaultFailedBoot lets it fail.
	FaultSlowBoot   = "slow_boot"
	FaultFailedBoot = "failed_boot"
	// FaultEvict announces an eviction as soon as a devbox runs; Delay later it is suspended.
	FaultEvict = "evict"
	// FaultTunnelCut cuts a connection through a tunnel after its first bytes.
	FaultTunnelCut = "tunnel_cut"
)

func faultKinds() []string {
	return []string{FaultLatency, FaultRate, FaultError, FaultDropBefore, FaultDropAfter, FaultExpiredKey, FaultQuota,
		FaultSlowBoot, FaultFailedBoot, FaultEvict, FaultTunnelCut}
}

// Fault is one way in which the service misbehaves.
type Fault struct {
	// Kind is one of the constants.
	Kind string `json:"kind"`
	// Path limits it to requests whose path contains the text; Method to one method. Empty: all.
	Path   string `json:"path,omitempty"`
	Method string `json:"method,omitempty"`
	// Probability is that of a hit, 0 meaning always. Which requests are hit depends on the seed, the method, the path without ids
	// and how often it was asked before.
	Probability float64 `json:"probability,omitempty"`
	// Count is after how many hits the fault is over; 0: never.
	Count int `json:"count,omitempty"`
	// Delay is the kind's duration.
	Delay time.Duration `json:"delay,omitempty"`
}

// Faults are tried in their order; all that hit are in force.
type Faults []Fault

// ParseFaults reads "KIND[:NAME=VALUE,...]" separated by semicolons, the names being p, count, path, method and delay:
// "429:p=0.1,delay=1s;drop_after:path=/v1/devboxes,method=POST,count=1".
func ParseFaults(text string) (Faults, error) {
	var all Faults
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		kind, options, _ := strings.Cut(part, ":")
		f := Fault{Kind: kind}
		for option := range strings.SplitSeq(options, ",") {
			if option == "" {
				continue
			}
			if err := f.set(option); err != nil {
				return nil, err
			}
		}
		all = append(all, f)
	}
	return all, all.validate()
}

func (f *Fault) set(option string) (err error) {
	name, value, _ := strings.Cut(option, "=")
	switch name {
	case "p":
		f.Probability, err = strconv.ParseFloat(value, 64)
	case "count":
		f.Count, err = strconv.Atoi(value)
	case "delay":
		f.Delay, err = time.ParseDuration(value)
	case "path":
		f.Path = value
	case "method":
		f.Method = strings.ToUpper(value)
	default:
		err = fmt.Errorf("there is no option %q", name)
	}
	if err != nil {
		return rterr.Invalid("read faults", "faults", "%s: %v", option, err)
	}
	return nil
}

func (all Faults) validate() error {
	for _, f := range all {
		if !slices.Contains(faultKinds(), f.Kind) {
			return rterr.Invalid("read faults", "faults", "no fault is called %q; there are %s", f.Kind, strings.Join(faultKinds(), ", "))
		}
		if math.IsNaN(f.Probability) || f.Probability < 0 || f.Probability > 1 || f.Count < 0 || f.Delay < 0 {
			return rterr.Invalid("read faults", "faults", "%s: a probability is from 0 to 1, and nothing is negative", f.Kind)
		}
	}
	return nil
}

// chaos decides which faults hit. Its owner's lock guards it.
type chaos struct {
	seed   uint64
	faults Faults
	// asked counts, per fault and place, how often it was decided; hits, per fault, how often it was hit.
	asked map[string]int
	hits  []int
}

func newChaos(seed uint64, faults Faults) *chaos {
	return &chaos{seed: seed, faults: faults, asked: map[string]int{}, hits: make([]int, len(faults))}
}

// at returns the faults of the kinds that hit this time. place is the path.
func (c *chaos) at(method, place string, kinds ...string) []Fault {
	var hit []Fault
	for i, f := range c.faults {
		if !slices.Contains(kinds, f.Kind) || !strings.Contains(place, f.Path) || f.Method != "" && f.Method != method ||
			f.Count > 0 && c.hits[i] >= f.Count {
			continue
		}
		if c.draw(i, f, method+" "+withoutIDs(place)) {
			c.hits[i]++
			hit = append(hit, f)
		}
	}
	return hit
}

func (c *chaos) draw(index int, f Fault, place string) bool {
	key := fmt.Sprintf("%d %s", index, place)
	c.asked[key]++
	if f.Probability == 0 {
		return true
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s %d", c.seed, key, c.asked[key])
	// FNV's upper bits hardly change with the last character: mix them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11)/(1<<53) < f.Probability
}

// withoutIDs makes a path the same for all resources.
func withoutIDs(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if len(part) > idLength {
			parts[i] = "{id}"
		}
	}
	return strings.Join(parts, "/")
}
