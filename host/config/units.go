package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

const day = 24 * time.Hour

// Duration is a length of time, written as "250ms", "1h30m" or "7d".
type Duration time.Duration

// Std returns it as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the shortest way to write it: "7d", "1h30m", "250ms".
func (d Duration) String() string {
	std := time.Duration(d)
	if std >= day && std%day == 0 {
		return strconv.FormatInt(int64(std/day), 10) + "d"
	}
	s := std.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what String writes, and all that time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return fmt.Errorf("%q is no length of time", s)
		}
		*d = Duration(time.Duration(n) * day)
		return nil
	}
	std, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is no length of time", s)
	}
	if std < 0 {
		return fmt.Errorf("%q is negative", s)
	}
	*d = Duration(std)
	return nil
}

// JSONSchema describes it as text.
func (Duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+d|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|0)$`, Examples: []any{"250ms", "1h30m", "7d"}}
}

// Size is a number of bytes, written as "8MiB".
type Size int64

// The units of a Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// Bytes returns the number of bytes.
func (s Size) Bytes() int64 { return int64(s) }

type unit struct {
	name string
	size int64
}

// units in the order in which a suffix is looked for.
func units() []unit {
	return []unit{
		{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
	}
}

// String returns it in the largest binary unit of which it is a whole number: "8MiB".
func (s Size) String() string {
	for _, u := range units()[:3] {
		if s != 0 && int64(s)%u.size == 0 {
			return strconv.FormatInt(int64(s)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a whole number with a unit (B, KiB, MiB, GiB, kB, MB, GB); without one it is bytes.
func (s *Size) UnmarshalText(text []byte) error {
	digits, size := strings.TrimSpace(string(text)), int64(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(digits, u.name); ok {
			digits, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/size {
		return fmt.Errorf("%q is no size", text)
	}
	*s = Size(n * size)
	return nil
}

// JSONSchema describes it as text, or a number of bytes.
func (Size) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^[0-9]+ ?(B|KiB|MiB|GiB|kB|KB|MB|GB)?$`},
			{Type: "integer", Minimum: "0"},
		},
		Examples: []any{"8MiB", "512KiB"},
	}
}
