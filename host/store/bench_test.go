package store

import (
	"context"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func benchStore(b *testing.B) *Store {
	s, err := Open(b.Context(), Config{Dir: b.TempDir(), Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return s
}

func BenchmarkActionBehind(b *testing.B) {
	s := benchStore(b)
	for b.Loop() {
		if err := s.Actions.Put(b.Context(), Action{ID: "a", RuntimeID: "r"}); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Actions.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRuntimeSave(b *testing.B) {
	s := benchStore(b)
	r := runtimeRecord("r")
	revision, err := s.SaveRuntime(b.Context(), r, 0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if revision, err = s.SaveRuntime(b.Context(), r, revision); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRuntimeGet(b *testing.B) {
	s := benchStore(b)
	if _, err := s.SaveRuntime(b.Context(), runtimeRecord("r"), 0); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Runtimes.Get(b.Context(), KeyOf("r")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEventAppend(b *testing.B) {
	s := benchStore(b)
	data := make([]byte, 300)
	for b.Loop() {
		if _, err := s.Events.Append(b.Context(), KeyOf("r"), data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenClose(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(b.Context(), Config{Dir: dir, Logger: hclog.NewNullLogger()})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
