//go:build !linux

package serve

import (
	"context"
	"errors"
)

// awaitParent has no event to wait for on this system; standard input is the lifeline.
func awaitParent(context.Context) error { return errors.ErrUnsupported }
