package plugin

import (
	"context"

	"google.golang.org/grpc"
)

// link is one connection to a backend and what stands behind it: a process, or an address. All code after it is shared.
type link interface {
	// raw is the connection with gRPC's own errors.
	raw() grpc.ClientConnInterface
	// lost is closed once the other end is gone for good; fate is complete from then on.
	lost() <-chan struct{}
	fate() fate
	// hide masks secrets in what the plugin writes.
	hide(secrets map[string]string)
	// identity of the process, zero for an address.
	identity() identity
	// end closes the link and blocks until nothing is left of it, within its own limits. While patient lives the other end is
	// given time to finish; a context that has ended makes it quick.
	end(patient context.Context, timing Timing)
}

type identity struct {
	pid    int
	sha256 string
}

// fate is what became of the other end.
type fate struct {
	// status: "exit status 2", "signal: killed", "connection lost"; empty while it lives.
	status string
	output Output
	// lines and panicText are excerpts of the output, for errors.
	lines, panicText string
}

// whileLinked returns a context that ends with the link.
func whileLinked(ctx context.Context, l link) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-l.lost():
			cancel(errLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
