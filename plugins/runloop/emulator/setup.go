package emulator

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// suspendDeadline is how long suspend commands may take where nothing else is said.
const suspendDeadline = 30 * time.Second

// checkMounts refuses mounts that lack what they need.
func checkMounts(p api.DevboxCreateParameters) error {
	for i, m := range p.Mounts {
		value, err := m.ValueByDiscriminator()
		if err != nil {
			return badRequest("mounts[%d]: %v", i, err)
		}
		var missing bool
		switch v := value.(type) {
		case api.FileMount:
			missing = v.Target == ""
		case api.ObjectMount:
			missing = v.ObjectID == "" || v.ObjectPath == ""
		case api.CodeMount:
			missing = v.RepoOwner == "" || v.RepoName == ""
		case api.BrokerMount:
			missing = v.AxonID == ""
		}
		if missing {
			return badRequest("mounts[%d] lacks a required field", i)
		}
	}
	return nil
}

// setUp does what is done in initializing: mounts the first time, launch commands every time.
func (s *Server) setUp(d *devbox, first bool) error {
	s.mu.Lock()
	b := d.box
	commands := d.launch.LaunchCommands
	s.mu.Unlock()
	if b == nil {
		return context.Canceled
	}
	if first {
		//nolint:staticcheck // Deprecated, and served all the same.
		if err := s.mount(d, b, d.params.CodeMounts); err != nil {
			return bootError{executionFailed, err}
		}
	}
	for _, command := range commands {
		exit, ok := s.runLogged(d, b, "setup_commands", command)
		if !ok {
			return context.Canceled
		}
		if exit != 0 {
			return bootError{executionFailed, fmt.Errorf("launch command %q ended with status %d", command, exit)}
		}
	}
	return nil
}

func (s *Server) mount(d *devbox, b *box.Box, repositories []api.CodeMountParameters) error {
	for target, content := range d.params.FileMounts {
		if err := put(b, target, strings.NewReader(content)); err != nil {
			return err
		}
	}
	for _, code := range repositories {
		if err := s.checkOut(d, b, api.CodeMount{
			RepoOwner: code.RepoOwner, RepoName: code.RepoName, Token: code.Token, GitRef: code.GitRef, InstallCommand: code.InstallCommand,
		}); err != nil {
			return err
		}
	}
	for _, m := range d.params.Mounts {
		if err := s.mountOne(d, b, m); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) mountOne(d *devbox, b *box.Box, m api.Mount) error {
	value, err := m.ValueByDiscriminator()
	if err != nil {
		return err
	}
	switch v := value.(type) {
	case api.FileMount:
		return put(b, v.Target, strings.NewReader(v.Content))
	case api.CodeMount:
		return s.checkOut(d, b, v)
	case api.ObjectMount:
		return s.mountObject(b, v.ObjectID, v.ObjectPath)
	case api.AgentMount:
		return s.mountAgent(d, b, v)
	default:
		// A broker has nobody to talk to here: its axon exists and that is all.
		return nil
	}
}

// checkOut clones a repository into the home, as far as this machine reaches it.
func (s *Server) checkOut(d *devbox, b *box.Box, m api.CodeMount) error {
	from := url.URL{Scheme: "https", Host: "github.com", Path: "/" + m.RepoOwner + "/" + m.RepoName + ".git"}
	if m.Token != nil && *m.Token != "" {
		from.User = url.UserPassword("x-access-token", *m.Token)
	}
	target := path.Join(b.Home(), m.RepoName)
	command := "git clone " + quote(from.String()) + " " + quote(target)
	if m.GitRef != nil && *m.GitRef != "" {
		command += " && git -C " + quote(target) + " checkout " + quote(*m.GitRef)
	}
	if m.InstallCommand != nil && *m.InstallCommand != "" {
		command += " && cd " + quote(target) + " && { " + *m.InstallCommand + "\n}"
	}
	exit, ok := s.runLogged(d, b, "setup_commands", command)
	if ok && exit != 0 {
		return fmt.Errorf("code mount %s/%s ended with status %d", m.RepoOwner, m.RepoName, exit)
	}
	return nil
}

// quote makes a word that a shell takes as it is.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// runSuspendHooks runs the commands that were asked for before a suspend; what they do wrong is logged, and so is a missed deadline.
func (s *Server) runSuspendHooks(d *devbox) {
	s.mu.Lock()
	b := d.box
	var commands []string
	deadline := suspendDeadline
	if l := d.launch.Lifecycle; l != nil && l.LifecycleHooks != nil {
		commands = l.LifecycleHooks.SuspendCommands
		if ms := l.LifecycleHooks.SuspendDeadlineMs; ms != nil {
			deadline = time.Duration(*ms) * time.Millisecond
		}
	}
	s.mu.Unlock()
	if b == nil || len(commands) == 0 {
		return
	}
	done := make(chan struct{})
	s.work.Go(func() {
		defer close(done)
		for _, command := range commands {
			if _, ok := s.runLogged(d, b, "setup_commands", command); !ok {
				return
			}
		}
	})
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		d.logs.add(logEntry{Level: "warn", Source: "setup_commands", Message: text("suspend_commands exceeded their deadline")})
	case <-d.life.Done():
	}
}
