package emulator

import (
	"crypto/rand"
	"math/big"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	base36 = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// idLength is how many characters follow a prefix.
const idLength = 21

// newID returns "PREFIX_" and 21 characters.
func newID(prefix string) string { return prefix + "_" + randomText(base62, idLength) }

// randomText returns characters of an alphabet that nobody can guess.
func randomText(alphabet string, length int) string {
	var out strings.Builder
	size := big.NewInt(int64(len(alphabet)))
	for range length {
		// crypto/rand does not fail on Linux: it aborts the program.
		n, _ := rand.Int(rand.Reader, size)
		out.WriteByte(alphabet[n.Int64()])
	}
	return out.String()
}

// newExecutionID returns what a client would make for a command_id.
func newExecutionID() string { return uuid.Must(uuid.NewV7()).String() }

// wellFormed reports whether an id has a prefix and the length that the service's own have. Others are a bad request rather than unknown.
func wellFormed(id, prefix string) bool {
	return regexp.MustCompile(`^` + prefix + `_[0-9A-Za-z]{21}$`).MatchString(id)
}

func nowMs() int64 { return time.Now().UnixMilli() }
