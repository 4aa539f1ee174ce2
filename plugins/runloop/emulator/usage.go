package emulator

import (
	"net/http"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
)

// sizes returns the vCPUs, GiB of memory and GiB of disk of launch parameters.
func sizes(l api.LaunchParameters) (cpu, memory, disk float64) {
	switch *l.ResourceSizeRequest {
	case api.XSMALL:
		return 0.5, 1, 4
	case api.MEDIUM:
		return 2, 4, 8
	case api.LARGE:
		return 2, 8, 16
	case api.XLARGE:
		return 4, 16, 16
	case api.XXLARGE:
		return 8, 32, 16
	case api.CUSTOMSIZE:
		cpu, memory, disk = 1, 2, 16
		if l.CustomCPUCores != nil {
			cpu = float64(*l.CustomCPUCores)
		}
		if l.CustomGbMemory != nil {
			memory = float64(*l.CustomGbMemory)
		}
		if l.CustomDiskSize != nil {
			disk = float64(*l.CustomDiskSize)
		}
		return cpu, memory, disk
	default:
		return 1, 2, 4
	}
}

func (s *Server) getUsage(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	until := nowMs()
	var ended *int64
	if d.ended > 0 {
		until, ended = d.ended, &d.ended
	}
	active := d.active
	if d.status == running || d.status == suspending {
		active += time.Since(d.activeSince)
	}
	elapsed := (until - d.created) / 1000
	seconds := int64(active.Seconds())
	cpu, memory, disk := sizes(d.launch)
	return map[string]any{
		"id": d.id, "status": d.status, "start_time_ms": d.created, "end_time_ms": ended,
		"total_active_seconds": seconds, "total_elapsed_seconds": elapsed,
		"vcpu_seconds": int64(float64(seconds) * cpu), "memory_gb_seconds": int64(float64(seconds) * memory),
		"disk_gb_seconds": int64(float64(elapsed) * disk),
	}, nil
}
