package shell

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestATerminalsReadEndsWithClose(t *testing.T) {
	master, slave, err := openTerminal(10, 20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slave.Close() }() // Somebody still has the other end.
	if err := master.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := master.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := master.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := master.Read(make([]byte, 1))
		ended <- err
	}()
	if err := master.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}
