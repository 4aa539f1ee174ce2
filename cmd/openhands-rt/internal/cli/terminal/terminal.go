package terminal

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// Is reports whether v is a terminal.
func Is(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Raw puts a terminal into raw mode and returns what puts it back, safe to call twice.
func Raw(f *os.File) (restore func(), err error) {
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { _ = term.Restore(int(f.Fd()), state) }), nil // a terminal that is gone needs no mode
}

// Size returns a terminal's size, 24 rows and 80 columns where it does not tell.
func Size(f *os.File) (rows, cols uint16) {
	c, r, err := term.GetSize(int(f.Fd()))
	if err != nil || c <= 0 || r <= 0 || c > 65535 || r > 65535 {
		return 24, 80
	}
	return uint16(r), uint16(c)
}

// The keys that leave an action on a terminal without ending it: Ctrl-P, then Ctrl-Q.
const (
	detachFirst  = 0x10
	detachSecond = 0x11
)

// Detach passes on what it reads until the detach keys come: then it calls OnDetach and ends. The first key is held back
// until it is known what follows it.
type Detach struct {
	Source   io.Reader
	OnDetach func()

	held, left bool
	in         [4096]byte
}

// Read implements io.Reader. p must have room for two bytes at least.
func (d *Detach) Read(p []byte) (int, error) {
	for !d.left {
		n, err := d.Source.Read(d.in[:min(len(d.in), len(p)-1)])
		out := d.filter(p[:0], d.in[:n])
		if len(out) > 0 || err != nil {
			return len(out), err
		}
	}
	return 0, ErrCancelled
}

func (d *Detach) filter(out, in []byte) []byte {
	for _, b := range in {
		switch {
		case d.held && b == detachSecond:
			d.held, d.left = false, true
			d.OnDetach()
			return out
		case d.held:
			out = append(out, detachFirst)
			d.held = b == detachFirst
			if !d.held {
				out = append(out, b)
			}
		case b == detachFirst:
			d.held = true
		default:
			out = append(out, b)
		}
	}
	return out
}
