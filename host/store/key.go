package store

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Key is the name of a record: one or more tokens, joined by dots, each safe for a NATS subject whatever it was made from.
type Key string

// maxToken is the longest token, in bytes as given, that is kept readable; a longer one becomes its hash.
const maxToken = 256

// KeyOf returns the key of tokens. Different tokens give different keys: letters, digits, "-" and "_" stand for themselves; a
// token with anything else, or none, is "=" and its bytes in hexadecimal; a very long one is "==" and its SHA-256.
func KeyOf(tokens ...string) Key {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		out[i] = encodeToken(t)
	}
	return Key(strings.Join(out, "."))
}

// Wild is a token of a pattern that stands for any one token.
const Wild = "*"

// patternOf is KeyOf for patterns: a token that is exactly Wild stays.
func patternOf(tokens []string) string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		if t == Wild {
			out[i] = Wild
			continue
		}
		out[i] = encodeToken(t)
	}
	return strings.Join(out, ".")
}

func encodeToken(t string) string {
	switch {
	case len(t) > maxToken:
		sum := sha256.Sum256([]byte(t))
		return "==" + hex.EncodeToString(sum[:])
	case plain(t):
		return t
	default:
		return "=" + hex.EncodeToString([]byte(t))
	}
}

func plain(t string) bool {
	for i := range len(t) {
		c := t[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return t != ""
}
