package client

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestEventsAreRead(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("the headers are %v", r.Header)
		}
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(w, ": ping\n\ndata: {\"output\":\"a\",\"offset\":1}\n\n"+
			"data: {\"output\":\ndata: \"b\"}\r\n\r\nevent: error\ndata: {\"code\":\"408\",\"message\":\"idle\"}\n\n")
	})
	stream, err := s.client(t).Stdout(t.Context(), "d", "e", 7)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for _, want := range []string{"a", "b"} {
		if one, err := stream.Next(); err != nil || one.Output != want {
			t.Errorf("%+v, %v, want %q", one, err, want)
		}
	}
	if _, err := stream.Next(); Status(err) != http.StatusRequestTimeout || !rterr.Is(err, rterr.Timeout) {
		t.Errorf("the error event: %v", err)
	}
	if _, err := stream.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last event: %v", err)
	}
	if got := s.requests()[0].URL.Query().Get("offset"); got != "7" {
		t.Errorf("the offset is %q", got)
	}
}

func TestAStreamThatIsCutIsAnError(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"out")
	})
	stream, err := s.client(t).Stdout(t.Context(), "d", "e", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Next(); !rterr.Is(err, rterr.Network) {
		t.Errorf("half an event: %v", err)
	}
}

func TestWhatIsNoStream(t *testing.T) {
	if _, err := serve(t, says(200, "", "Content-Type", "text/plain")).client(t).Evictions(t.Context()); !rterr.Is(err, rterr.Provider) {
		t.Errorf("an empty answer: %v", err)
	}
	if _, err := serve(t, says(401, `{}`)).client(t).Evictions(t.Context()); !rterr.Is(err, rterr.Unauthenticated) {
		t.Errorf("a refusal: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "2", 2 * time.Second}, {"Retry-After", "0.5", 500 * time.Millisecond}, {"Retry-After", "61", 0},
		{"Retry-After", "-1", 0}, {"Retry-After", "soon", 0}, {"Retry-After-Ms", "250", 250 * time.Millisecond},
		{"Retry-After", now.Add(3 * time.Second).Format(http.TimeFormat), 3 * time.Second}, {"Retry-After", "NaN", 0},
	} {
		if got := retryAfter(http.Header{c.name: {c.value}}, now); got != c.want {
			t.Errorf("%s: %s is %v, want %v", c.name, c.value, got, c.want)
		}
	}
}

func FuzzReadEvent(f *testing.F) {
	f.Add("data: x\n\n")
	f.Add("event: error\ndata: {}\n\n: c\n\n")
	f.Add("data:\r\ndata: a\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := bufio.NewReaderSize(strings.NewReader(text), 16)
		for range len(text) + 1 {
			_, data, err := readEvent(r)
			if err != nil {
				return
			}
			if len(data) > len(text) {
				t.Fatalf("%d bytes of data out of %d", len(data), len(text))
			}
		}
		t.Fatal("the events never end")
	})
}

func FuzzRefused(f *testing.F) {
	f.Add(`{"error":"not_found","message":"m","request_id":"r"}`)
	f.Add(`{"error":{"message":"nested"}}`)
	f.Add(`<html>`)
	f.Fuzz(func(t *testing.T, body string) {
		got := refused(&http.Response{StatusCode: 400, Header: http.Header{}}, []byte(body))
		if len(got.message) > maxReason || len(got.code) > maxReason {
			t.Fatalf("%d and %d bytes are kept", len(got.message), len(got.code))
		}
		_ = got.toError(t.Context(), "op", 1).Error()
	})
}
