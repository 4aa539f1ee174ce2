package main

import (
	"fmt"
	"io"
	"time"
)

// target is a bound that a ratio shall keep.
type target struct {
	text string
	got  float64
	most float64
}

// print writes the tables, in Markdown.
func (b *bench) print(w io.Writer) error {
	out := &printer{w: w}
	out.line("| latency | p50 | p99 | beside |")
	out.line("|---|---:|---:|---|")
	for _, name := range []string{rawPTY, rawGRPC, rawHTTP, rawExec, tunnelHTTP, farHTTP, runloopAPI} {
		out.line("| %s | %s | %s | |", name, micros(b.at[name].at(0.5)), micros(b.at[name].at(0.99)))
	}
	floor := b.at[rawHTTP].at(0.5) + b.at[rawGRPC].at(0.5) + b.at[rawPTY].at(0.5)
	for _, row := range []struct {
		name, beside string
		other        time.Duration
	}{
		{"agent run, in process", "PTY", b.at[rawPTY].at(0.5)},
		{agentSocketRun, "gRPC + PTY", b.at[rawGRPC].at(0.5) + b.at[rawPTY].at(0.5)},
		{pluginRun, "gRPC + gRPC + PTY", 2*b.at[rawGRPC].at(0.5) + b.at[rawPTY].at(0.5)},
		{hostRun, "HTTP + gRPC + PTY", floor},
		{hostV0, hostRun, b.at[hostRun].at(0.5)},
		{"agent process, in process", "fork and exec", b.at[rawExec].at(0.5)},
		{hostProcess, "HTTP + gRPC + fork and exec", b.at[rawHTTP].at(0.5) + b.at[rawGRPC].at(0.5) + b.at[rawExec].at(0.5)},
		{hostCreate, "HTTP + gRPC + PTY", floor},
		{tunnelRun, "HTTP over the tunnel", b.at[tunnelHTTP].at(0.5)},
		{farRun, "HTTP over the tunnel", b.at[farHTTP].at(0.5)},
		{runloopConnect, "the API's own time", b.at[runloopAPI].at(0.5)},
	} {
		s := b.at[row.name]
		out.line("| %s | %s | %s | %.2fx %s |", row.name, micros(s.at(0.5)), micros(s.at(0.99)), ratio(s.at(0.5), row.other), row.beside)
	}
	out.line("")
	out.line("| throughput | MB/s | beside |")
	out.line("|---|---:|---|")
	for _, f := range b.throughput {
		out.line("| %s | %.0f | %.2fx %s (%.0f MB/s) |", f.name, f.value/1e6, f.value/f.other, f.beside, f.other/1e6)
	}
	out.line("")
	out.line("| memory, idle | MB |")
	out.line("|---|---:|")
	for _, f := range b.memory {
		out.line("| %s | %.1f |", f.name, f.value/1e6)
	}
	out.line("")
	out.line("| target | measured | |")
	out.line("|---|---:|---|")
	for _, t := range b.targets(floor) {
		verdict := "met"
		if t.got > t.most {
			verdict = "**missed**"
		}
		out.line("| %s <= %.2f | %.2f | %s |", t.text, t.most, t.got, verdict)
	}
	return out.err
}

func (b *bench) targets(floor time.Duration) []target {
	host := b.at[hostRun]
	list := []target{
		{"agent run / PTY round trip, p50", ratio(b.at["agent run, in process"].at(0.5), b.at[rawPTY].at(0.5)), 2},
		{"runtime/v1 run / (HTTP + gRPC + PTY), p50", ratio(host.at(0.5), floor), 1.5},
		{"OpenHands' run / runtime/v1 run, p50", ratio(b.at[hostV0].at(0.5), host.at(0.5)), 1.3},
		{"runtime/v1 run, p99 / p50", ratio(host.at(0.99), host.at(0.5)), 3},
	}
	list = append(list,
		target{"connect on Runloop beyond the API's own time, p50, ms", float64(b.at[runloopBeyond].at(0.5).Microseconds()) / 1000, 50},
		target{"run over the tunnel / HTTP over the tunnel, p50", ratio(b.at[tunnelRun].at(0.5), b.at[tunnelHTTP].at(0.5)), 1.5},
		target{"run over a tunnel of 10 ms / HTTP over it, p50", ratio(b.at[farRun].at(0.5), b.at[farHTTP].at(0.5)), 1.5})
	for _, f := range b.throughput[min(1, len(b.throughput)):] {
		list = append(list, target{"cp / " + f.name, f.other / f.value, 2})
	}
	for _, f := range b.memory {
		if f.name == "agent, resident" {
			list = append(list, target{"agent, idle, MB", f.value / 1e6, 15})
		}
	}
	return list
}

func ratio(a, b time.Duration) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func micros(d time.Duration) string {
	if d >= 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.0f µs", float64(d)/1e3)
}

// printer keeps the first error of its writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p.w, format+"\n", args...); err != nil && p.err == nil {
		p.err = err
	}
}
