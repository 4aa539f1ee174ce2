package shell

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// largeCommand is the size from which on the file of commands is emptied afterwards.
const largeCommand = 64 << 10

// MaxNonce is the most that a nonce may have, in bytes: the shell reads triggers of one length.
const MaxNonce = 16

// triggerLength fits the longest sequence number, a space and a nonce, also one of ours. rc.sh has it too.
const triggerLength = 20 + 1 + len(settleNonce) + MaxNonce

// Run gives the shell a command, which must have no NUL byte. The shell must be idle: between an Idle and the next Run. nonce
// comes back in the Idle that ends it; it has 1 to MaxNonce letters and digits, and is not used twice.
//
// complete says that the shell will find an end of the command where it ends, as split.Complete does: only then does the shell live on
// whose errexit is set and whose command has ended with a status that errexit does not see.
//
// A command is given to the shell once, whatever that says. A signal or a key that came at the end of the last command may still
// make the shell drop what it is given, so then it is first given one of ours, until it has taken that.
func (s *Session) Run(nonce, command string, complete bool) error {
	if len(nonce) > MaxNonce {
		return fmt.Errorf("hand over command: a nonce of %d bytes", len(nonce))
	}
	s.run.Lock()
	defer s.run.Unlock()
	if complete && s.errexit(command) {
		command += keepEnd
	}
	if s.run.typed {
		// What the command before has not read is not for this one, nor is its Ctrl-S.
		s.run.typed = false
		s.run.disturbed = true
		if err := control(s.slave, restart); err != nil {
			return fmt.Errorf("drop typed input: %w", err)
		}
	}
	if !s.run.disturbed {
		return s.give(nonce, command)
	}
	s.run.disturbed, s.run.withdrawn, s.run.settling = false, false, 0
	s.run.pending = &pending{nonce: nonce, command: command}
	return s.give(settleNonce+nonce, KeepStatus)
}

// restart drops what was typed to a terminal, and lets its output go on. TCOON takes back no more than a TCOOFF.
func restart(fd int) error {
	return errors.Join(
		unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH),
		unix.IoctlSetInt(fd, unix.TCXONC, unix.TCOOFF),
		unix.IoctlSetInt(fd, unix.TCXONC, unix.TCOON),
	)
}

// pending is a command that waits for the shell to settle.
type pending struct{ nonce, command string }

const (
	settleNonce = "settle-"
	// keepEnd keeps $? of a command from eval, which would be a command of its own to errexit. A definition is no command to DEBUG,
	// ERR and xtrace, and a redirection that leads where it comes from costs nothing.
	keepEnd = "\n{ __rt_z() { :; }; } 2>&\"$((__rt_b=$?,2))\""
	// statusInterrupted is that of a command that SIGINT has ended.
	statusInterrupted = 128 + int(unix.SIGINT)
	// settleTries bounds how often a shell is given it that does not say that it took it.
	settleTries = 3
)

// errexit reports whether errexit may be set at the end of a command. With verbose set, keepEnd would be shown. run is held.
func (s *Session) errexit(command string) bool {
	set := strings.Contains(s.run.flags, "e") || setsErrexit.MatchString(command)
	return set && !strings.Contains(s.run.flags, "v")
}

// setsErrexit finds what sets errexit, or reads a script that may.
var setsErrexit = regexp.MustCompile(`errexit|\bset\s[^;&|\n]*-[a-zA-Z]*e|(^|[\s;&|({])(\.|source)\s`)

// Commands that do nothing and keep $_: they end with the status of the one before, or as one that was interrupted.
const (
	KeepStatus        = `{ ((__rt_b=__rt_s,1)); } >/dev/null 2>&1`
	StatusInterrupted = `{ ((__rt_b=130,1)); } >/dev/null 2>&1`
)

// give hands a command to the shell. run is held.
func (s *Session) give(nonce, command string) error {
	if err := s.writeCommand(command); err != nil {
		return fmt.Errorf("hand over command: %w", err)
	}
	s.run.nonce = nonce
	return s.trigger()
}

// writeCommand puts the command where the shell reads it: up to the NUL, whatever follows.
func (s *Session) writeCommand(command string) error {
	if s.run.large {
		if err := s.command.Truncate(0); err != nil {
			return err
		}
	}
	s.run.large = len(command) > largeCommand
	_, err := s.command.WriteAt(append([]byte(command), 0), 0)
	return err
}

// trigger answers the last report. The file's offset is the shell's too.
func (s *Session) trigger() error {
	if _, err := s.command.Seek(0, 0); err != nil {
		return fmt.Errorf("rewind command: %w", err)
	}
	line := strconv.AppendUint(make([]byte, 0, triggerLength), s.run.sequence, 10)
	line = append(line, ' ')
	line = append(line, s.run.nonce...)
	for len(line) < triggerLength {
		line = append(line, ' ')
	}
	if _, err := s.control.Write(line); err != nil {
		return fmt.Errorf("trigger command: %w", err)
	}
	return nil
}

// readControl hears the prompt hook.
func (s *Session) readControl() {
	defer s.goroutines.Done()
	buf := make([]byte, 4<<10)
	for {
		n, err := s.control.Read(buf)
		s.decoder.feed(buf[:n], s.report)
		if err != nil {
			break
		}
	}
	if s.decoder.Skipped > 0 {
		s.log.Warn("something else wrote to the shell's control socket", "bytes", s.decoder.Skipped)
	}
}

// report takes a report.
func (s *Session) report(r Report) {
	s.run.Lock()
	idle, settled := s.take(&r)
	s.run.Unlock()
	if settled {
		s.settled(func() { s.goOn(r) })
	}
	if !idle {
		return
	}
	s.settled(func() {
		s.out.ready = true
		s.handler.Idle(r)
	})
}

// take reports whether the shell is idle from now on, or is settled and to be given the pending command. A report that comes while
// it is idle is that of an interrupted wait for a command. Any other says that the command that the shell was given is over, whatever
// nonce it has: the command may have changed that, or an interrupt came before it. run is held.
func (s *Session) take(r *Report) (idle, settled bool) {
	s.run.sequence, s.run.flags = r.Sequence, r.Flags
	switch {
	case !s.run.heard:
		s.run.heard = true
		return true, false
	case s.run.nonce == "":
		return false, false
	case s.run.pending != nil:
		return false, s.settle(r)
	case r.Nonce != s.run.nonce:
		s.log.Debug("a command was interrupted before it began, or has changed the prompt hook's variables", "nonce", s.run.nonce)
	}
	r.Nonce, s.run.nonce = s.run.nonce, ""
	return true, false
}

// settle reports whether the shell has taken the command of ours. run is held.
func (s *Session) settle(r *Report) bool {
	if r.Nonce == s.run.nonce || s.run.settling == settleTries {
		return true
	}
	s.run.settling++
	s.failed(s.trigger())
	return false
}

// goOn gives the pending command to the shell, or ends it if it was withdrawn. All is out that the shell said before.
func (s *Session) goOn(r Report) {
	s.run.Lock()
	p := s.run.pending
	s.run.pending = nil
	if p != nil && !s.run.withdrawn {
		s.failed(s.give(p.nonce, p.command))
	}
	over := p != nil && s.run.withdrawn
	if over {
		s.run.nonce = ""
	}
	s.run.Unlock()
	if over {
		r.Nonce, r.Status = p.nonce, statusInterrupted
		s.handler.Idle(r)
	}
}

// failed is for a command that cannot be handed over. Whether the shell took it, Exited tells.
func (s *Session) failed(err error) {
	if err != nil {
		s.log.Debug("cannot hand over a command", "error", err)
		s.Kill()
	}
}

// Type writes to the terminal as a keyboard does. Blocks while the terminal takes no more, until AbortType.
func (s *Session) Type(p []byte) (int, error) {
	s.run.Lock()
	s.run.typed = true
	s.run.Unlock()
	return s.master.Write(p)
}

// AbortType makes Type return with an error if it blocks (abort), or lets it work again (!abort).
func (s *Session) AbortType(abort bool) {
	var at time.Time
	if abort {
		at = time.Unix(1, 0)
	}
	_ = s.master.SetWriteDeadline(at) // It fails only on a closed terminal, where Type fails too.
}

// Enter is what the Enter key has to send for the terminal's present mode.
func (s *Session) Enter() byte {
	enter := byte('\n')
	_ = control(s.slave, func(fd int) error { // A terminal that cannot say is taken for a cooked one.
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil && t.Lflag&unix.ICANON == 0 {
			enter = '\r'
		}
		return err
	})
	return enter
}

// EndOfFile is the character that ends the input of the terminal.
func (s *Session) EndOfFile() byte { return endOfFile(s.slave) }

func endOfFile(tty *os.File) byte {
	const usual = 4
	eof := byte(usual)
	_ = control(tty, func(fd int) error { // As above.
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil && t.Cc[unix.VEOF] != 0 {
			eof = t.Cc[unix.VEOF]
		}
		return err
	})
	return eof
}

// Resize sets the terminal's size; the foreground gets SIGWINCH.
func (s *Session) Resize(rows, cols uint16) error { return setSize(s.master, rows, cols) }
