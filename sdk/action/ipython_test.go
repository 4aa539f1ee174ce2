package action

import (
	"encoding/json"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestDecodeRunIPython(t *testing.T) {
	for payload, want := range map[string]RunIPython{
		`{"code":"1"}`: {Code: "1", IncludeExtra: true},
		`{"code":"1","include_extra":null,"kernel_init_code":null}`:                       {Code: "1", IncludeExtra: true},
		`{"code":"","include_extra":false,"kernel_init_code":"import x","thought":"why"}`: {KernelInitCode: "import x"},
	} {
		got, err := DecodeRunIPython([]byte(payload))
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v", payload, got, err)
		}
	}
	for payload, field := range map[string]string{
		`{}`: "action.payload.code", `{"code":null}`: "action.payload.code", `{"code":1}`: "action.payload", `[]`: "action.payload",
		`{"code":"1","include_extra":"yes"}`: "action.payload", `{"code":"1"} x`: "action.payload",
	} {
		if _, err := DecodeRunIPython([]byte(payload)); !rterr.Is(err, rterr.InvalidArgument) || rterr.From(err).Field != field {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

func TestRunIPythonObservation(t *testing.T) {
	got := string(RunIPythonObservation("a < b", "True", nil))
	want := `{"message":"Code executed in IPython cell.","observation":"run_ipython","content":"True",` +
		`"extras":{"code":"a < b","image_urls":null},"success":true}`
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func FuzzDecodeRunIPython(f *testing.F) {
	f.Add([]byte(`{"code":"1","include_extra":true,"kernel_init_code":"x"}`))
	f.Add([]byte(`{"code":"\ud800","include_extra":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := DecodeRunIPython(payload)
		if err != nil {
			if rterr.From(err).Field == "" {
				t.Errorf("the field is not named: %v", err)
			}
			return
		}
		if !json.Valid(RunIPythonObservation(r.Code, r.KernelInitCode, nil)) {
			t.Error("no JSON")
		}
	})
}
