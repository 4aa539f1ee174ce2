package boot

import (
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestNoBrowser(t *testing.T) {
	for kind, payload := range map[string]string{
		action.KindBrowse: `{"url":"https://example.org"}`, action.KindBrowseInteractive: `{"browser_actions":"noop(1)"}`,
	} {
		k := kinds()[kind]
		task, err := k.Prepare([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		got, err := task(t.Context(), nil)
		want := `{"message":"Browser functionality is not supported or disabled.","observation":"error",` +
			`"content":"Browser functionality is not supported or disabled.","extras":{"error_id":""}}`
		if string(got) != want || err != nil {
			t.Errorf("%s: %s %v", kind, got, err)
		}
		if _, err := k.Prepare([]byte(`{}`)); !rterr.Is(err, rterr.InvalidArgument) {
			t.Errorf("%s without arguments: %v", kind, err)
		}
	}
}
