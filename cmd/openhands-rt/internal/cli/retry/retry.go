// Package retry tries again what a lost connection has cut, with a budget for each outage.
//
// It belongs to the command line; nothing else imports it.
package retry

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// The waits of this package: first and most bound the pause between two tries, jitter is the part of it left to chance.
const (
	first  = 100 * time.Millisecond
	most   = 2 * time.Second
	jitter = 0.2
)

// moved is an error of a try that had got on.
type moved struct{ error }

func (m moved) Unwrap() error { return m.error }

// Moved marks the error of a try that had got on before it failed: what follows is a new outage, with a budget of its own, and
// its first try is made at once. Moved(nil) is nil.
func Moved(err error) error {
	if err == nil {
		return nil
	}
	return moved{err}
}

// Do calls try until it succeeds, fails for a reason that is not transient, or an outage has lasted longer than budget; zero
// means one try. It returns try's last error, or the cause of ctx's end.
func Do[T any](ctx context.Context, budget time.Duration, transient func(error) bool, try func() (T, error)) (T, error) {
	for {
		v, err := failsafe.With[T](policy[T](budget, transient)).WithContext(ctx).Get(try)
		m := moved{}
		switch {
		case err == nil:
			return v, nil
		case ctx.Err() != nil:
			return v, context.Cause(ctx)
		case !errors.As(err, &m):
			return v, err
		case budget <= 0 || !transient(m.error):
			return v, m.error
		}
	}
}

func policy[T any](budget time.Duration, transient func(error) bool) retrypolicy.RetryPolicy[T] {
	b := retrypolicy.NewBuilder[T]().ReturnLastFailure().HandleIf(func(_ T, err error) bool {
		return err != nil && !errors.As(err, &moved{}) && transient(err)
	})
	if budget <= 0 {
		return b.WithMaxRetries(0).Build()
	}
	return b.WithBackoff(first, most).WithJitterFactor(jitter).WithMaxRetries(-1).WithMaxDuration(budget).Build()
}

// ErrCut is a stream that ended before its end.
var ErrCut = io.ErrUnexpectedEOF
