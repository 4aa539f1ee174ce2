package follow

import (
	"context"
	"errors"
	"io"
	"testing"
)

func TestCollectEndsWithItsContextAlsoWhenTheReaderHasGone(t *testing.T) {
	ended := errors.New("ended")
	for _, early := range []int{0, 1, 3} {
		ctx, cancel := context.WithCancelCause(t.Context())
		pieces, free := make(chan piece, readAhead), make(chan []byte, readAhead)
		for range early {
			pieces <- piece{data: []byte("x")}
		}
		cancel(ended)
		close(pieces)
		for range early + 2 { // the pieces may still come, then the end must
			if _, err := collect(ctx, nil, pieces, free); errors.Is(err, ended) {
				break
			}
		}
		if _, err := collect(ctx, nil, pieces, free); !errors.Is(err, ended) {
			t.Errorf("after %d pieces: %v", early, err)
		}
	}
}

func TestCollectGivesTheLastBytesWithTheEnd(t *testing.T) {
	pieces, free := make(chan piece, readAhead), make(chan []byte, readAhead)
	pieces <- piece{data: []byte("ab")}
	pieces <- piece{data: []byte("c"), err: io.EOF}
	close(pieces)
	if got, err := collect(t.Context(), nil, pieces, free); string(got) != "abc" || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", got, err)
	}
}
