package store

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// slack is what the embedded server may use beyond the sum of the buckets' bounds.
const slack = 256 << 20

// startServer locks the folder and starts the embedded server in it. It listens on nothing.
func (s *Store) startServer() error {
	if s.cfg.Dir == "" {
		return rterr.New(rterr.ConfigInvalid, "", "is required").WithField("data_dir")
	}
	if err := makeDir(s.cfg.Dir); err != nil {
		return err
	}
	lock, err := LockDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.lock = lock
	b := s.bounds
	embedded, err := server.NewServer(&server.Options{
		ServerName:             "openhands-rt",
		DontListen:             true,
		JetStream:              true,
		StoreDir:               filepath.Join(s.cfg.Dir, "nats"),
		JetStreamMaxMemory:     16 << 20,
		JetStreamMaxStore:      b.RuntimeBytes + b.ActionBytes + b.EventBytes + slack,
		SyncAlways:             s.cfg.SyncAlways,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return err
	}
	embedded.SetLoggerV2(&natsLog{log: s.log}, false, false, false)
	s.server = embedded
	embedded.Start()
	if !embedded.ReadyForConnections(readyLimit) {
		return rterr.New(rterr.Unavailable, "start embedded store", "not ready within %s", readyLimit)
	}
	if !embedded.JetStreamEnabled() {
		return rterr.New(rterr.Integrity, "start embedded store", "JetStream did not come up in %s", s.cfg.Dir).
			WithRemedy("see the log lines of the store; move the folder away to start afresh")
	}
	return nil
}

// natsLog passes the server's lines on, its notices as debug: they speak of NATS, not of this program.
type natsLog struct{ log hclog.Logger }

func (l *natsLog) text(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}

func (l *natsLog) Noticef(format string, args ...any) { l.log.Debug(l.text(format, args)) }
func (l *natsLog) Warnf(format string, args ...any)   { l.log.Warn(l.text(format, args)) }
func (l *natsLog) Errorf(format string, args ...any)  { l.log.Error(l.text(format, args)) }
func (l *natsLog) Fatalf(format string, args ...any)  { l.log.Error(l.text(format, args)) }
func (l *natsLog) Debugf(format string, args ...any)  { l.log.Trace(l.text(format, args)) }
func (l *natsLog) Tracef(format string, args ...any)  { l.log.Trace(l.text(format, args)) }
