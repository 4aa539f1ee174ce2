package service

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// evictions are the account's pending evictions. The zero value is ready; the stream is opened by the first who asks.
type evictions struct {
	once sync.Once
	mu   sync.Mutex
	// deadlines by devbox.
	deadlines map[string]time.Time
	// changed is closed, and replaced, at each change.
	changed chan struct{}
}

// of returns when a devbox is evicted, zero if it is not, and a channel that is closed when that may have changed.
func (e *evictions) of(s *Service, id string) (time.Time, <-chan struct{}) {
	e.once.Do(func() { s.tasks.Go(func() { e.follow(s) }) })
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.deadlines[id], e.changed
}

// follow keeps the stream open as long as the plugin lives; the API closes it now and then.
func (e *evictions) follow(s *Service) {
	pause := s.waits.evictions
	for s.ctx.Err() == nil {
		got, err := e.read(s)
		if got {
			pause = s.waits.evictions
		}
		if err != nil && s.ctx.Err() == nil {
			s.log.Debug("the stream of evictions broke", "error", err)
		}
		if rterr.Is(err, rterr.PermissionDenied, rterr.NotFound) {
			s.log.Warn("evictions are not announced: Runloop does not tell this key of them", "error", err)
			return
		}
		_ = sleep(s.ctx, pause, pause) // Its only error is the end of the plugin.
		pause = min(pause*2, s.waits.evictionsMost)
	}
}

// read follows one stream to its end; got says that it had something.
func (e *evictions) read(s *Service) (got bool, err error) {
	set, err := s.configured("watch evictions")
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err := set.api.Evictions(ctx)
	if err != nil {
		return false, err
	}
	defer stream.Close()
	e.reset() // All that are pending are told again.
	for {
		event, err := stream.Next()
		if errors.Is(err, io.EOF) || client.Status(err) != 0 {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = true
		e.set(event.DevboxID, time.UnixMilli(event.EvictionDeadlineMs))
	}
}

func (e *evictions) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deadlines = map[string]time.Time{}
}

func (e *evictions) set(id string, deadline time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deadlines[id] = deadline
	if e.changed != nil {
		close(e.changed)
	}
	e.changed = make(chan struct{})
}
