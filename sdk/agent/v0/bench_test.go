package v0

import (
	"strings"
	"testing"
)

func BenchmarkDecodeAction(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeAction(strings.NewReader(request)); err == nil {
			continue
		}
		b.Fatal("not decoded")
	}
}
