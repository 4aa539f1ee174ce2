package split

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

func TestCommandsAsBashlex(t *testing.T) {
	f, err := os.Open("testdata/bashlex.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	n, wrong := 0, 0
	for lines.Scan() {
		var c struct {
			Text     string
			Commands []string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		n++
		if got := Commands(c.Text); !slices.Equal(got, c.Commands) {
			wrong++
			t.Errorf("%q:\n got %q\nwant %q", c.Text, got, c.Commands)
		}
	}
	t.Logf("%d wrong of %d", wrong, n)
}
