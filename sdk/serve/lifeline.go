package serve

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
)

// errHostGone is the cause of a context that lifeline cancelled.
var errHostGone = errors.New("the host is gone")

// lifeline returns a context that ends, with errHostGone as cause, when the host does. Its goroutines end with the context or
// with the process: a read of standard input cannot be interrupted on every system.
func lifeline(ctx context.Context, stdin *os.File, stdinIsLine bool, logger hclog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if stdinIsLine {
		go func() {
			// The host writes nothing; whatever comes is thrown away so that the end is seen.
			_, err := io.Copy(io.Discard, stdin)
			logger.Debug("lifeline ended", "error", err)
			cancel(errHostGone)
		}()
	}
	go func() {
		switch err := awaitParent(ctx); {
		case err == nil:
			cancel(errHostGone)
		case ctx.Err() == nil:
			logger.Debug("cannot watch the parent process", "error", err)
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
