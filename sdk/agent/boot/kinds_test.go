package boot

import (
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestNoBrowser(t *testing.T) {
	cfg := valid()
	cfg.StateDir, cfg.Workspace = t.TempDir(), t.TempDir()
	all, err := kinds(cfg, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []string{"browse", "browse_interactive", "edit", "read", "write"}) {
		t.Errorf("kinds: %v", got)
	}
	for kind, payload := range map[string]string{
		action.KindBrowse: `{"url":"https://example.org"}`, action.KindBrowseInteractive: `{"browser_actions":"noop(1)"}`,
	} {
		task, err := all[kind].Prepare([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		got, err := task(t.Context(), nil)
		want := `{"message":"Browser functionality is not supported or disabled.","observation":"error",` +
			`"content":"Browser functionality is not supported or disabled.","extras":{"error_id":""}}`
		if string(got) != want || err != nil {
			t.Errorf("%s: %s %v", kind, got, err)
		}
		if _, err := all[kind].Prepare([]byte(`{}`)); !rterr.Is(err, rterr.InvalidArgument) {
			t.Errorf("%s without arguments: %v", kind, err)
		}
	}
	if err := all[action.KindEdit].(io.Closer).Close(); err != nil {
		t.Error(err)
	}
}
