package config

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurationsAreWrittenShort(t *testing.T) {
	for text, d := range map[string]time.Duration{
		"0s": 0, "250ms": 250 * time.Millisecond, "5m": 5 * time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute,
		"1h0m5s": time.Hour + 5*time.Second, "7d": 7 * day, "25h": 25 * time.Hour, "10m": 10 * time.Minute, "10s": 10 * time.Second, "20h": 20 * time.Hour,
	} {
		if got := Duration(d).String(); got != text {
			t.Errorf("%v is written %q, want %q", d, got, text)
		}
	}
}

func TestPropertyDurationsAndSizesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Min(0).Draw(t, "d"))
		text, _ := d.MarshalText()
		var back Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Fatalf("%d is %s is %d, %v", d, text, back, err)
		}
		s := Size(rapid.Int64Min(0).Draw(t, "s"))
		text, _ = s.MarshalText()
		var size Size
		if err := size.UnmarshalText(text); err != nil || size != s {
			t.Fatalf("%d is %s is %d, %v", s, text, size, err)
		}
	})
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"8MiB": 8 * MiB, "1 GiB": GiB, "5kB": 5000, "2MB": 2_000_000, "7": 7, "0B": 0, " 3KiB ": 3 * KiB} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "9999999999GiB", "8 miles", "0x10"} {
		var s Size
		if s.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q became %d", text, s)
		}
	}
}

func TestNoDurations(t *testing.T) {
	for _, text := range []string{"", "5", "-1s", "d", "-1d", "1.5d", "99999999999d", "1w", "5 m"} {
		var d Duration
		if d.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q became %s", text, d)
		}
	}
}
