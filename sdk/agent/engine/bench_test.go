package engine

import (
	"bytes"
	"io"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// quantiles reports the median and the 99th percentile beside the mean.
func quantiles(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkPTYRoundTrip is what the shell costs at best by itself: a command typed to a plain bash, a mark from PROMPT_COMMAND.
func BenchmarkPTYRoundTrip(b *testing.B) {
	for name, command := range map[string]string{"colon": ":", "echo": "echo hi"} {
		b.Run(name, func(b *testing.B) {
			cmd := exec.Command("bash", "--norc")
			cmd.Env = append(testEnv(b.TempDir()), "PS1=", `PROMPT_COMMAND=printf '\001%s\002' $?`)
			master, err := pty.Start(cmd)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 4096)
			until := func() {
				for {
					n, err := master.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					if bytes.IndexByte(buf[:n], 2) >= 0 {
						return
					}
				}
			}
			until()
			var all []time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := io.WriteString(master, command+"\n"); err != nil {
					b.Fatal(err)
				}
				until()
				all = append(all, time.Since(began))
			}
			quantiles(b, all)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			_ = master.Close()
		})
	}
}

func discard(*agentv1.ActionEvent) error { return nil }

func benchmarkExecute(b *testing.B, l *lab, kind string, payload any) {
	ctx := l.ctx()
	l.exec(request(b, "", kind, payload, 0))
	var all []time.Duration
	for b.Loop() {
		req := request(b, "", kind, payload, 0)
		began := time.Now()
		if err := l.Execute(ctx, req, discard); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	quantiles(b, all)
}

func BenchmarkRun(b *testing.B) {
	for name, command := range map[string]string{"colon": ":", "echo": "echo hi"} {
		b.Run(name, func(b *testing.B) { benchmarkExecute(b, newLab(b), action.KindRun, action.Run{Command: command}) })
	}
}

func BenchmarkProcess(b *testing.B) {
	benchmarkExecute(b, newLab(b), action.KindProcess, action.Process{Argv: []string{"/bin/true"}})
}

// BenchmarkForkExec is what a process costs at best by itself.
func BenchmarkForkExec(b *testing.B) {
	var all []time.Duration
	for b.Loop() {
		began := time.Now()
		cmd := exec.Command("/bin/true")
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	quantiles(b, all)
}

func BenchmarkProcess100MB(b *testing.B) {
	l := newLab(b)
	b.SetBytes(100 << 20)
	for b.Loop() {
		got := 0
		req := request(b, "", action.KindProcess, action.Process{Argv: []string{"head", "-c", "100M", "/dev/zero"}}, 0)
		err := l.Execute(l.ctx(), req, func(e *agentv1.ActionEvent) error { got += len(e.GetOutput().GetData()); return nil })
		if err != nil || got != 100<<20 {
			b.Fatal(got, err)
		}
	}
	b.ReportMetric(float64(maxRSS())/(1<<20), "peak-MiB")
}

func BenchmarkRun100MB(b *testing.B) {
	l := newLab(b)
	b.SetBytes(100 << 20)
	for b.Loop() {
		got := 0
		req := request(b, "", action.KindRun, action.Run{Command: "head -c 100M /dev/zero"}, 0)
		err := l.Execute(l.ctx(), req, func(e *agentv1.ActionEvent) error { got += len(e.GetOutput().GetData()); return nil })
		if err != nil || got != 100<<20 {
			b.Fatal(got, err)
		}
	}
}

func maxRSS() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Maxrss << 10
}
