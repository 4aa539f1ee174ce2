package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/terminal"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

// progress is one line on a terminal that says what is being waited for, shown only if the wait is long.
type progress struct {
	w     io.Writer
	timer *time.Timer

	mu    sync.Mutex
	text  string
	shown bool
	ended bool
}

// newProgress returns a line that appears after a delay; on anything but a terminal it never does.
func newProgress(w io.Writer, after time.Duration) *progress {
	p := &progress{w: w}
	if !terminal.Is(w) {
		p.ended = true
		return p
	}
	p.timer = time.AfterFunc(after, p.appear)
	return p
}

func (p *progress) appear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = true
	p.draw()
}

// show sets the text.
func (p *progress) show(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
	if p.shown {
		p.draw()
	}
}

func (p *progress) draw() {
	if !p.ended {
		fmt.Fprintf(p.w, "\r\x1b[K%s", p.text)
	}
}

// done takes the line away.
func (p *progress) done() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown && !p.ended {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.ended = true
}

func runtimeStatus(rt *runtimev1.Runtime) string {
	return render.Enum(rt.GetStatus().String(), "RUNTIME_STATUS_")
}

func statusText(rt *runtimev1.Runtime) string {
	text := "runtime " + rt.GetId() + ": " + strings.ReplaceAll(runtimeStatus(rt), "_", " ")
	if rt.GetMessage() != "" {
		text += ": " + render.Cell(rt.GetMessage())
	}
	return text
}

func stepText(s *backendv1.Step) string {
	text := s.GetName() + " " + render.Enum(s.GetState().String(), "STEP_STATE_")
	if s.Progress != nil {
		text += fmt.Sprintf(" %d%%", int(s.GetProgress()*100))
	}
	if s.GetDetail() != "" {
		text += ": " + render.Cell(s.GetDetail())
	}
	return text
}
