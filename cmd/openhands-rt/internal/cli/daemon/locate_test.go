package daemon

import "testing"

func FuzzDecodeEndpoint(f *testing.F) {
	f.Add([]byte(`{"url":"http://127.0.0.1:1","sandbox_url":"x","key_file":"k"}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decodeEndpoint("f", raw)
		if (e == nil) == (err == nil) {
			t.Errorf("%v, %v", e, err)
		}
		if e != nil && e.URL == "" {
			t.Error("an endpoint without an address")
		}
	})
}
