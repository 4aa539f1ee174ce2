package shell

import (
	"golang.org/x/sys/unix"
)

// enoughOutput is more than a terminal of Linux holds for its reader (8 KiB in its queue and 4 KiB in its line discipline, both
// for now): who has read as much has read what was written before, however much is being written.
const enoughOutput = 1 << 20

// readTerminal hears the terminal until Close.
func (s *Session) readTerminal() {
	defer s.goroutines.Done()
	raw, err := s.master.SyscallConn()
	if err != nil {
		return // Close came first.
	}
	_ = raw.Read(func(fd uintptr) (ended bool) { // It ends with the terminal; Exited says more.
		for {
			more, err := s.readSome(int(fd))
			if err != nil || !more {
				return err != nil
			}
		}
	})
}

// readSome hands on what one read gives; more is false if there was nothing.
func (s *Session) readSome(fd int) (more bool, err error) {
	s.out.Lock()
	defer s.out.Unlock()
	n, err := s.read(fd)
	return n > 0, err
}

// read hands on what one read of the terminal gives, 0 bytes if there is nothing. out is held.
func (s *Session) read(fd int) (int, error) {
	for {
		n, err := unix.Read(fd, s.out.buffer[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, err
		case n == 0:
			return 0, unix.EIO // No terminal says that.
		}
		s.output(s.out.buffer[:n])
		return n, nil
	}
}

func (s *Session) output(p []byte) {
	switch {
	case s.out.closed:
	case !s.out.ready, len(p) == 1 && p[0] == '\n' && s.settling():
		s.out.dropped += uint64(len(p))
	default:
		s.handler.Output(p)
	}
}

// settling reports whether the shell has no command but may have had a signal: then it puts out a newline.
func (s *Session) settling() bool {
	s.run.Lock()
	defer s.run.Unlock()
	return s.run.pending != nil || s.run.nonce == "" && s.run.disturbed
}

// settled calls then after everything that was written to the terminal until now has been handed on. A read that finds nothing
// has made sure that nothing is on its way: the kernel waits for its own hand-over first (n_tty_read, tty_buffer_flush_work).
func (s *Session) settled(then func()) {
	s.out.Lock()
	defer s.out.Unlock()
	_ = control(s.master, func(fd int) error { // A terminal that is closed has nothing more to say.
		for sum := 0; sum < enoughOutput; {
			n, err := s.read(fd)
			if err != nil || n == 0 {
				return err
			}
			sum += n
		}
		return nil
	})
	if !s.out.closed {
		then()
	}
}
