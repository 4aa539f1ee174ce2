package runtime

import "context"

// Principal is who asks. Doors put it into the context after they have checked a key; this package checks what it may.
type Principal struct {
	// ID is stable; records and events carry it.
	ID string
	// Name is for people.
	Name string
}

type principalKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns the principal of ctx; ok is false if there is none, and then nothing is allowed.
func PrincipalFrom(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(principalKey{}).(Principal)
	return p, ok
}
