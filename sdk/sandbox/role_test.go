package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
)

// runRole is what a copy of the test binary does instead of testing.
func runRole(role string) int {
	var err error
	switch role {
	case "shim":
		EnterMain(os.Args[1:])
	case "probe":
		err = roleProbe(os.Args[1])
	case "wrap":
		err = roleWrap(os.Args[1:])
	case "walk":
		err = roleWalk()
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// roleProbe tries the root and the cgroups, as whoever runs it.
func roleProbe(dir string) error {
	os.Setenv("SANDBOX_TEST_ROLE", "shim")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := ProbeRoot(context.Background(), []string{self}, dir); err != nil {
		return err
	}
	p, notes := FindPlacement(context.Background())
	fmt.Printf("v2=%q v1=%d notes=%d\n", p.V2, len(p.V1), len(notes))
	return nil
}

// roleWalk holds and ends a walked tree, as whoever runs it.
func roleWalk() error {
	tree, err := NewTree(TreeConfig{})
	if err != nil {
		return err
	}
	cmd := exec.Command("sh", "-c", "(setsid sleep 600 >/dev/null & ); sleep 600 >/dev/null & echo ready; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := tree.Start(cmd, "a1"); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return err
	}
	n, err := tree.Kill()
	_ = cmd.Wait()
	if err != nil || n < 3 {
		return fmt.Errorf("killed %d: %w", n, err)
	}
	return tree.Close()
}

// roleWrap runs a script in a root of its own, as whoever runs it: scratch, workspace, home, script.
func roleWrap(args []string) error {
	os.Setenv("SANDBOX_TEST_ROLE", "shim")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", args[3])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := (RootSpec{Scratch: args[0], Workspace: args[1], Home: args[2], Username: testUser}).Wrap(cmd, []string{self}); err != nil {
		return err
	}
	return cmd.Run()
}
