package shell

import (
	"fmt"
	"strings"
	"testing"
)

func wire(key, nonce string) string {
	return strings.Join([]string{key, nonce, "7", "130", "42", "himBHs", "/a\n'\"\xff", "me", "box", "/usr/bin/python", ""}, "\x00")
}

func TestDecoderFindsReportsAmongRubbish(t *testing.T) {
	stream := "rubbish" + wire("KEY", "a") + "x\x00y\x00" + strings.Repeat("z", 3*maxField) + wire("KEY", "b") +
		wire("OTHER", "no") + "KEY\x00cut\x001\x00" + wire("KEY", "c")
	for _, step := range []int{1, 7, 4096, len(stream)} {
		d := decoder{key: []byte("KEY")}
		var got []Report
		for rest := stream; rest != ""; rest = rest[min(step, len(rest)):] {
			d.feed([]byte(rest[:min(step, len(rest))]), func(r Report) { got = append(got, r) })
		}
		want := ""
		for _, n := range []string{"a", "b", "c"} {
			want += fmt.Sprint(Report{n, 7, 130, 42, "himBHs", "/a\n'\"\xff", "me", "box", "/usr/bin/python"})
		}
		have := ""
		for _, r := range got {
			have += fmt.Sprint(r)
		}
		if have != want || d.Skipped == 0 {
			t.Errorf("step %d: %q", step, have)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte(wire("KEY", "a")), 3)
	f.Add([]byte("KEY\x00KEY\x00KEY\x00"), 1)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		d := decoder{key: []byte("KEY")}
		step = max(1, step%100)
		for rest := raw; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			d.feed(rest[:min(step, len(rest))], func(r Report) {
				if r.Status < 0 || r.Status > 255 || r.Pid == 0 {
					t.Errorf("%+v", r)
				}
			})
			if len(d.partial) > maxField || len(d.fields) > reportFields {
				t.Fatal("it keeps too much")
			}
		}
		found := false
		d.feed([]byte("\x00"+wire("KEY", "end")), func(r Report) { found = found || r.Nonce == "end" })
		if !found {
			t.Error("it did not find back")
		}
	})
}
