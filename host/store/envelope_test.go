package store

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// FuzzDecode: whatever lies in a bucket, reading it gives a record or an Integrity error that names the key.
func FuzzDecode(f *testing.F) {
	good, err := codec{bucket: "runtimes", schema: 1, maxValue: MaxRecord}.encode("r", runtimeRecord("r"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(good), `{}`, `{"schema":1,"data":null}`, `{"schema":99,"data":{}}`, `{"schema":-5,"data":{}}`, `null`, `{"schema":0,"data":{"id":1}}`} {
		f.Add([]byte(seed))
	}
	c := codec{bucket: "runtimes", schema: 1, maxValue: MaxRecord, migrations: map[int]Migration{
		0: func(data json.RawMessage) (json.RawMessage, error) { return data, nil },
	}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r Runtime
		err := c.decode("key", raw, &r)
		if err == nil {
			if _, err := c.encode("key", r); err != nil && !rterr.Is(err, rterr.LimitExceeded, rterr.Internal) {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			return
		}
		if e := rterr.From(err); e.Reason != rterr.Integrity || e.Evidence["key"] != "key" || !strings.Contains(err.Error(), "runtimes/key") {
			t.Fatalf("error %v", err)
		}
	})
}

func TestPropertyKeysAreSafeAndDifferent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.OneOf(rapid.String(), rapid.StringMatching(`[=a-f0-9.*> ]{0,20}`), rapid.StringMatching(`[a-z]{200,300}`))
		one := rapid.SliceOfN(token, 1, 3).Draw(t, "one")
		two := rapid.SliceOfN(token, 1, 3).Draw(t, "two")
		a, b := KeyOf(one...), KeyOf(two...)
		if same := strings.Join(one, "\x00|") == strings.Join(two, "\x00|"); same != (a == b) && len(one) == len(two) {
			t.Fatalf("%q and %q give %s and %s", one, two, a, b)
		}
		for _, part := range strings.Split(string(a), ".") {
			if part == "" || strings.Trim(part, "=-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
				t.Fatalf("%q gives the unsafe %s", one, a)
			}
		}
		if strings.Count(string(a), ".") != len(one)-1 || len(a) > 3*(2*maxToken+2) {
			t.Fatalf("%q gives %s", one, a)
		}
	})
}
