package sandbox

import (
	"os"
	"os/user"
	"strings"
	"testing"
)

func TestRenamedKeepsTheOthers(t *testing.T) {
	passwd := "root:x:0:0:root:/root:/bin/bash\nopenhands:x:0:0::/old:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
	want := "openhands:x:0:7::" + HomePath + ":/bin/bash\nroot:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n"
	if got := string(renamed([]byte(passwd), "openhands", 0, 7)); got != want {
		t.Errorf("%s", got)
	}
	if got := string(renamed([]byte("open:x:1:1::/:/bin/sh\n"), "openhands", 1, 1)); !strings.Contains(got, "\nopen:x:") {
		t.Errorf("a name that begins like it is gone: %s", got)
	}
}

func TestCheckUsername(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Skip("this user has no name")
	}
	for name, ok := range map[string]bool{
		"openhands-test": true, "_x": true, self.Username: true, "": false, "a b": false, "a:b": false, "a\nb": false, "1a": false,
		"Upper": false, strings.Repeat("a", 33): false, "root": os.Geteuid() == 0, "nobody": os.Geteuid() == nobody,
	} {
		if err := CheckUsername(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
