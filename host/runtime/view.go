package runtime

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"slices"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

func live(v *runtimev1.Runtime) bool { return lifecycle.Status(v.GetStatus()).Live() }

func sortNewest(list []*runtimev1.Runtime) {
	slices.SortFunc(list, func(a, b *runtimev1.Runtime) int {
		return cmp.Or(b.GetCreatedAt().AsTime().Compare(a.GetCreatedAt().AsTime()), cmp.Compare(a.GetId(), b.GetId()))
	})
}

// sameKey compares in constant time, whatever the lengths; an empty key fits nothing.
func sameKey(want, got string) bool {
	w, g := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got))
	return want != "" && subtle.ConstantTimeCompare(w[:], g[:]) == 1
}
