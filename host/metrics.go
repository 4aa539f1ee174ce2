package host

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openhands-rt/openhands-rt/host/recovery"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// metrics are what the daemon counts, on a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	actions  *prometheus.HistogramVec
	connects *prometheus.HistogramVec
	attempts *prometheus.CounterVec
	repeats  prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		actions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "openhands_rt_action_duration_seconds", Help: "Time from an action's arrival to its observation.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}, []string{"backend", "kind", "outcome"}),
		connects: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "openhands_rt_runtime_ready_seconds", Help: "Time from the creation of a runtime to READY.",
			Buckets: prometheus.ExponentialBuckets(0.005, 3, 10),
		}, []string{"backend"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "openhands_rt_recovery_attempts_total", Help: "Failed attempts that the recovery policy decided on.",
		}, []string{"backend", "operation", "class", "strategy"}),
		repeats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "openhands_rt_repeated_requests_total", Help: "Requests of the OpenHands protocol that were answered with the action of an earlier one.",
		}),
	}
	m.registry.MustRegister(m.actions, m.connects, m.attempts, m.repeats,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ActionDone counts an observation.
func (m *metrics) ActionDone(backend, kind string, outcome agentv1.Outcome, d time.Duration) {
	m.actions.WithLabelValues(backend, kind, outcomeName(outcome)).Observe(d.Seconds())
}

// RuntimeReady counts a creation.
func (m *metrics) RuntimeReady(backend string, d time.Duration) {
	m.connects.WithLabelValues(backend).Observe(d.Seconds())
}

// Repeated counts a request that ran nothing because an earlier one had.
func (m *metrics) Repeated() { m.repeats.Inc() }

// recovered counts an attempt.
func (m *metrics) recovered(a recovery.Attempt) {
	if a.Err != nil {
		m.attempts.WithLabelValues(a.Op.Backend, a.Op.Name, a.Decision.Class.String(), a.Decision.Strategy.String()).Inc()
	}
}

// gauges adds what is read when somebody asks.
func (m *metrics) gauges(counts func() (byStatus map[string]int, active int), waiting func() int, dropped func() uint64) {
	m.registry.MustRegister(
		statusCollector{counts: func() map[string]int { byStatus, _ := counts(); return byStatus }},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "openhands_rt_actions_active", Help: "Actions that are queued or running.",
		}, func() float64 { _, active := counts(); return float64(active) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "openhands_rt_journal_waiting", Help: "Entries of the action index that wait to be written.",
		}, func() float64 { return float64(waiting()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "openhands_rt_events_dropped_total", Help: "Events that are missing from the durable log.",
		}, func() float64 { return float64(dropped()) }),
	)
}

// statusCollector shows the runtimes by status.
type statusCollector struct{ counts func() map[string]int }

func (statusCollector) desc() *prometheus.Desc {
	return prometheus.NewDesc("openhands_rt_runtimes", "Runtimes by status.", []string{"status"}, nil)
}

// Describe sends the one description.
func (c statusCollector) Describe(out chan<- *prometheus.Desc) { out <- c.desc() }

// Collect sends the present numbers.
func (c statusCollector) Collect(out chan<- prometheus.Metric) {
	for status, n := range c.counts() {
		out <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, float64(n), status)
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

func outcomeName(o agentv1.Outcome) string {
	switch o {
	case agentv1.Outcome_OUTCOME_COMPLETED:
		return "completed"
	case agentv1.Outcome_OUTCOME_FAILED:
		return "failed"
	case agentv1.Outcome_OUTCOME_TIMED_OUT:
		return "timed_out"
	case agentv1.Outcome_OUTCOME_INTERRUPTED:
		return "interrupted"
	case agentv1.Outcome_OUTCOME_LOST:
		return "lost"
	default:
		return "unspecified"
	}
}
