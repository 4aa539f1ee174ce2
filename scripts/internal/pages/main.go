// Command pages writes the parts of the documentation that are made from code: the configuration reference, the picture and the
// tables of the state machine, and the page of the command line. With --check it writes nothing and prints the stale files.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/openhands-rt/openhands-rt/host/config"
	"github.com/openhands-rt/openhands-rt/host/lifecycle"
)

func main() {
	check := flag.Bool("check", false, "write nothing; print the stale files")
	flag.Parse()
	stale, err := run(".", *check)
	if err != nil {
		fmt.Fprintln(os.Stderr, "pages:", err)
		os.Exit(1)
	}
	for _, name := range stale {
		fmt.Println(name)
	}
}

// run compares every page under root with what the code says, and writes those that differ unless it only checks. It returns
// "NAME: changed" for each.
func run(root string, check bool) ([]string, error) {
	made, err := pages(root)
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, p := range made {
		path := filepath.Join(root, p.name)
		have, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		if bytes.Equal(have, p.text) {
			continue
		}
		stale = append(stale, p.name+": changed")
		if check {
			continue
		}
		if err := os.WriteFile(path, p.text, 0o644); err != nil {
			return nil, err
		}
	}
	return stale, nil
}

type page struct {
	name string
	text []byte
}

func pages(root string) ([]page, error) {
	var reference bytes.Buffer
	if err := config.WriteReference(&reference); err != nil {
		return nil, err
	}
	architecture, err := os.ReadFile(filepath.Join(root, "docs/architecture.md"))
	if err != nil {
		return nil, err
	}
	architecture, err = fill(architecture, map[string]string{
		"states": "```mermaid\n" + lifecycle.Mermaid() + "```\n", "state tables": lifecycle.Markdown(),
	})
	if err != nil {
		return nil, fmt.Errorf("docs/architecture.md: %w", err)
	}
	commands, err := commandPage(root)
	if err != nil {
		return nil, err
	}
	return []page{
		{"configs/openhands-rt.yaml", reference.Bytes()},
		{"docs/architecture.md", architecture},
		{"docs/cli.md", commands},
	}, nil
}

// commandPage builds the binary and asks it, for its command tree is nobody else's to import.
func commandPage(root string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "pages-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // under the system's temporary folder
	binary := filepath.Join(dir, "openhands-rt")
	build := exec.Command("go", "build", "-o", binary, "./cmd/openhands-rt")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build openhands-rt: %w", err)
	}
	return writeCommands(func(args ...string) (string, error) {
		cmd := exec.Command(binary, args...)
		// Nothing of the machine may show: neither a daemon's address nor a home folder.
		cmd.Env = []string{"HOME=/nonexistent", "OPENHANDS_RT_DATA_DIR=/nonexistent"}
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, said.String())
		}
		return string(out), err
	})
}
