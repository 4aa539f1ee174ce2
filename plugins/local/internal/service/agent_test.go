package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/spawn"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// The test binary is also the shim and the agent, by its first argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case spawn.EnterRoot:
			sandbox.EnterMain(os.Args[2:])
		case "agent":
			os.Exit(boot.Main(os.Args[2:]))
		case "silent": // Ends without a word.
			exit(errors.New("silent on purpose"))
		case "hung": // Never gets ready.
			select {}
		case "plugin":
			exit(runPlugin())
		case "walk":
			exit(runWalk())
		}
	}
	goleak.VerifyTestMain(m)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// self is the path of the test binary.
func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return filepath.Clean(path)
}
