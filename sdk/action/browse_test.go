package action

import (
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestDecodeBrowse(t *testing.T) {
	b, err := DecodeBrowse([]byte(`{"url":"http://x","thought":"t","return_axtree":true}`))
	if err != nil || b.URL != "http://x" || !b.ReturnAXTree {
		t.Errorf("%+v %v", b, err)
	}
	i, err := DecodeBrowseInteractive([]byte(`{"browser_actions":"noop(1)","browsergym_send_msg_to_user":""}`))
	if err != nil || i.BrowserActions != "noop(1)" || i.ReturnAXTree {
		t.Errorf("%+v %v", i, err)
	}
	for payload, fields := range map[string][2]string{
		`{}`:                                  {"action.payload.url", "action.payload.browser_actions"},
		`{"url":null,"browser_actions":null}`: {"action.payload.url", "action.payload.browser_actions"},
		`{"url":1,"browser_actions":1}`:       {"action.payload", "action.payload"},
		`[]`:                                  {"action.payload", "action.payload"},
		``:                                    {"action.payload", "action.payload"},
	} {
		_, err := DecodeBrowse([]byte(payload))
		_, err2 := DecodeBrowseInteractive([]byte(payload))
		if rterr.From(err).Field != fields[0] || rterr.From(err2).Field != fields[1] {
			t.Errorf("%s: %v, %v", payload, err, err2)
		}
	}
}

func FuzzDecodeBrowse(f *testing.F) {
	f.Add([]byte(`{"url":"http://x","browser_actions":"noop()"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, err := range []error{second(DecodeBrowse(payload)), second(DecodeBrowseInteractive(payload))} {
			if err != nil && !rterr.Is(err, rterr.InvalidArgument) {
				t.Error(err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }
