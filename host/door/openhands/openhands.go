// Package openhands is the door of OpenHands itself: an unmodified OpenHands with RUNTIME=remote works on the daemon through it.
//
// On the API's listener it is the runtime API (start, pause, stop, what is there), for the clients of both generations. On the
// sandboxes' listener it is, below each runtime's URL, the V0 action execution protocol: actions go through host/runtime like
// every other, the rest goes on to the sandbox's agent, which speaks the protocol too.
//
// The protocol has no ids. Which request repeats an earlier one is found out by package repeat; an action is never run twice for
// one request.
package openhands

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/host/door/forward"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0/repeat"
)

// The waits and bounds of this package.
const (
	// startWait is how long /start waits for a quick sandbox: a client that finds it ready at once does not sleep.
	startWait = 8 * time.Second
	// aliveLimit bounds one look at a runtime's own URL.
	aliveLimit = 3 * time.Second
	// setupLimit bounds what is done in a shell before it is offered.
	setupLimit = time.Minute
	// maxBody bounds the requests of the runtime API, but for the context of a build, which maxContext bounds.
	maxBody    = 4 << 20
	maxContext = 1 << 30
	// maxRecorded bounds the actions of an earlier life of the host that may be asked for again, of one runtime.
	maxRecorded = 1000
	// maxMarks bounds the notes that wait to be written.
	maxMarks = 1024
	// probes is how many runtimes are looked at at once for one list.
	probes = 8
)

// Metrics counts.
type Metrics interface {
	// Repeated counts a request that was answered with the action of an earlier one.
	Repeated()
}

// Options are what a Door needs. All of them are required.
type Options struct {
	Manager *runtime.Manager
	// Keys tells who a key of the daemon's API belongs to.
	Keys    func(key string) (runtime.Principal, bool)
	Metrics Metrics
	Logger  hclog.Logger
}

// Door serves both sides. Close it after its servers.
type Door struct {
	opts    Options
	m       *runtime.Manager
	started time.Time
	table   *repeat.Table
	marks   chan mark
	client  *http.Client
	forward forward.Forwarder
	alive   forward.Forwarder
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	mu     sync.Mutex
	setups map[string]*setup
	seeds  map[string]*seed
}

// New returns a door. No I/O.
func New(o Options) *Door {
	ctx, cancel := context.WithCancel(context.Background())
	d := &Door{
		opts: o, m: o.Manager, started: time.Now(), table: repeat.NewTable(), marks: make(chan mark, maxMarks),
		client: &http.Client{Timeout: aliveLimit, CheckRedirect: noRedirect, Transport: &http.Transport{
			MaxIdleConnsPerHost: probes, IdleConnTimeout: time.Minute,
		}},
		forward: forward.Forwarder{Fail: fail}, alive: forward.Forwarder{Fail: notAlive},
		ctx: ctx, cancel: cancel, setups: map[string]*setup{}, seeds: map[string]*seed{},
	}
	d.table.Reset = func(key repeat.Key, action string) { d.note(mark{runtime: key.Runtime, action: action}) }
	d.tasks.Go(d.writeMarks)
	return d
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Listener wraps the sandboxes' listener, so that the door sees whether its answers arrive.
func (d *Door) Listener(l net.Listener) net.Listener { return repeat.Listener(l, d.table) }

// ConnContext is for the http.Server on Listener. That server must not offer HTTP/2.
func (d *Door) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return repeat.ConnContext(ctx, c)
}

// Close ends what the door runs of its own, and writes what it has noted. Its servers have ended before.
func (d *Door) Close() {
	d.table.Close()
	d.cancel()
	d.tasks.Wait()
	d.client.CloseIdleConnections()
}

// mark is a note that an action was answered, or was not after all.
type mark struct {
	runtime, action string
	answered        bool
}

// note queues a mark; it blocks only while very many wait.
func (d *Door) note(m mark) {
	select {
	case d.marks <- m:
	case <-d.ctx.Done():
	}
}

// writeMarks is off the way of the answers; one goroutine keeps the notes of an action in order.
func (d *Door) writeMarks() {
	for {
		select {
		case m := <-d.marks:
			d.write(m)
		case <-d.ctx.Done():
			for {
				select {
				case m := <-d.marks:
					d.write(m)
				default:
					return
				}
			}
		}
	}
}

func (d *Door) write(m mark) {
	ctx, _, err := d.m.Exposed(context.Background(), m.runtime)
	if err == nil {
		err = d.m.SetAnswered(ctx, m.runtime, m.action, m.answered)
	}
	if err != nil {
		d.opts.Logger.Debug("not noted whether an action was answered", "action", m.action, "error", err)
	}
}
