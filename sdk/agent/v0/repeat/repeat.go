// Package repeat finds out which request repeats an earlier one, for a protocol without ids: a client that was cut off sends the
// same bytes again, and a client that has its answer may send the same bytes for another run.
//
// A request repeats an earlier one if both have the same key (runtime, generation, body) and the earlier answer was not
// completely written, or its connection was reset within resetWindow after that. An orderly close, or another request on the
// same connection, says that the answer was taken: it is never repeated. To see these the server listens through Listener, and
// gives ConnContext to net/http; HTTP/2 would hide them.
//
// Two equal requests at once are two, unless the connection of the first is cut.
//
// Both faces of the V0 protocol import it: sdk/agent/v0 and host/door/openhands. It knows no runtime and no store.
package repeat

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strings"
	"time"
)

// The waits and bounds of this package.
const (
	// resetWindow is how long after its answer was written a reset connection still makes a request one to be repeated.
	resetWindow = 60 * time.Second
	// grace is how long a request waits for news of an equal one whose connection seems alive: a proxy may reset the client's
	// side before ours.
	grace = 250 * time.Millisecond
	// KeepCut is how long a request that was cut off can be repeated once it is known to be cut.
	KeepCut = time.Hour
	// maxCut bounds them; the oldest are forgotten first.
	maxCut = 10_000
	// maxLingering bounds the connections that are watched after the server has closed them.
	maxLingering = 256
)

// Key is what equal requests have in common.
type Key struct {
	Runtime    string
	Generation uint64
	// Body is BodyOf the request.
	Body string
}

// bodyBytes of the digest are kept.
const bodyBytes = 16

// Digest takes in a body as it is read.
func Digest() hash.Hash { return sha256.New() }

// BodyOf names the body that a Digest has taken in: equal names are equal bodies.
func BodyOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:bodyBytes]) }

// idPrefix begins every id that IDOf makes.
const idPrefix = "v0-"

// IDOf is the id of an action: it holds the name of the body, so that Seed finds it again. unique must have no dash.
func IDOf(body, unique string) string { return idPrefix + body + "-" + unique }

// Minted reports whether IDOf has made an id.
func Minted(id string) bool {
	_, ok := bodyIn(id)
	return ok
}

// bodyIn is the body's name in an id of IDOf.
func bodyIn(id string) (body string, ok bool) {
	rest, ok := strings.CutPrefix(id, idPrefix)
	if !ok {
		return "", false
	}
	body, _, ok = strings.Cut(rest, "-")
	return body, ok && len(body) == 2*bodyBytes
}
