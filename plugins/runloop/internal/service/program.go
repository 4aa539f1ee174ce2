package service

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
)

// The architectures by Runloop's names.
const (
	archX86 = "x86_64"
	archARM = "arm64"
)

// program is the agent's binary for one architecture.
type program struct {
	path string
	sum  string // sha-256, in hexadecimal
}

// findPrograms finds the agent's binaries: what the config names must be there, the rest is looked for beside the plugin. One for
// the configured architecture is needed in the mode that puts it into devboxes.
func findPrograms(set *config.Settings, beside string) (map[string]*program, error) {
	programs := map[string]*program{}
	if set.Agent != config.AgentOurs {
		return programs, nil
	}
	for arch, path := range map[string]string{archX86: set.AgentBinary.X86, archARM: set.AgentBinary.ARM} {
		p, err := findProgram(arch, path, beside)
		if err != nil {
			return nil, err
		}
		if p != nil {
			programs[arch] = p
		}
	}
	if programs[set.Architecture] == nil {
		return nil, config.Invalid("agent_binary."+set.Architecture, "is not set, and no openhands-rt-agent for it is in %s", beside).
			WithRemedy("put openhands-rt-agent or openhands-rt for " + set.Architecture + " beside the plugin, or set the path")
	}
	return programs, nil
}

func findProgram(arch, path, beside string) (*program, error) {
	if path != "" {
		p, found := load(arch, path)
		if p == nil {
			return nil, config.Invalid("agent_binary."+arch, "%s is no program for %s: %s", path, arch, found)
		}
		return p, nil
	}
	names := []string{"openhands-rt-agent-" + arch}
	if arch == machineArch() {
		names = append(names, "openhands-rt-agent", "openhands-rt")
	}
	for _, name := range names {
		if p, _ := load(arch, filepath.Join(beside, name)); p != nil {
			return p, nil
		}
	}
	return nil, nil
}

func machineArch() string {
	if runtime.GOARCH == "arm64" {
		return archARM
	}
	return archX86
}

// load reads a program and makes sure that it runs on an architecture. Without one, found says what is there.
func load(arch, path string) (p *program, found string) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator's own choice
	if err != nil {
		return nil, err.Error()
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, "it is no ELF program"
	}
	defer f.Close()
	want := map[string]elf.Machine{archX86: elf.EM_X86_64, archARM: elf.EM_AARCH64}[arch]
	if f.Machine != want {
		return nil, "it is made for " + f.Machine.String()
	}
	sum := sha256.Sum256(raw)
	return &program{path: path, sum: hex.EncodeToString(sum[:])}, ""
}
