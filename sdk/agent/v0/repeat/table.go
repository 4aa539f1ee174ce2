package repeat

import (
	"context"
	"sync"
	"time"
)

// state is where an exchange stands.
type state uint8

const (
	// running: the answer is not being written yet.
	running state = iota + 1
	// answering: it is being written.
	answering
	// written: it is, and the connection says nothing yet.
	written
	// cut: the client does not have it.
	cut
	// settled: it has, or another request has taken the exchange's place.
	settled
)

// Table remembers the requests whose answers may still be missed. Close it.
type Table struct {
	// Reset, if set, is told when an answer that was written has not arrived after all. Called without locks, from any goroutine.
	Reset func(key Key, action string)

	mu        sync.Mutex
	exchanges map[Key][]*Exchange // oldest first; no settled ones
	// cuts are the exchanges that are cut, in the order of becoming so; some may be settled since.
	cuts    []*Exchange
	changed chan struct{} // closed and replaced at each change of a state

	lingering map[*Conn]struct{}
	linger    sync.WaitGroup
	closed    bool
	// before waits, for tests.
	onWait func()
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{exchanges: map[Key][]*Exchange{}, changed: make(chan struct{}), lingering: map[*Conn]struct{}{}}
}

// Exchange is one request and its answer.
type Exchange struct {
	// Action is the id under which the request's action runs.
	Action string
	// Repeats: it takes the place of an earlier one.
	Repeats bool

	table *Table
	key   Key
	conn  *Conn // nil for one of an earlier life of the host
	// The rest is guarded by table.mu.
	state state
	// heard: the client has closed its side, or sent another request, while the answer was written.
	heard bool
	// at is when it was written; since when it was cut. reset: after it was written.
	at, since time.Time
	reset     bool
}

// Begin registers a request before anything is done for it, and says which action it stands for: that of an earlier request that
// it repeats, or the one that mint names. It blocks, at most for grace, while an equal request may turn out to be cut. conn is
// the request's own connection (ConnOf); nil if it is not known, and then nothing of it is. The error is that of ctx.
func (t *Table) Begin(ctx context.Context, key Key, conn *Conn, mint func() string) (*Exchange, error) {
	conn.taken()
	var patience <-chan time.Time
	for {
		t.mu.Lock()
		now := time.Now()
		old := t.repeatedLocked(key, now)
		if old != nil || !t.doubtLocked(key, conn, now) {
			x := t.beginLocked(key, conn, old, mint)
			t.mu.Unlock()
			conn.carries(x)
			return x, nil
		}
		changed, onWait := t.changed, t.onWait
		t.mu.Unlock()
		if patience == nil {
			timer := time.NewTimer(grace)
			defer timer.Stop()
			patience = timer.C
		}
		if onWait != nil {
			onWait()
		}
		select {
		case <-changed:
		case <-patience:
			t.mu.Lock()
			x := t.beginLocked(key, conn, t.repeatedLocked(key, time.Now()), mint)
			t.mu.Unlock()
			conn.carries(x)
			return x, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (t *Table) beginLocked(key Key, conn *Conn, old *Exchange, mint func() string) *Exchange {
	x := &Exchange{table: t, key: key, conn: conn, state: running}
	if old != nil {
		x.Action, x.Repeats = old.Action, true
		t.settleLocked(old)
	} else {
		x.Action = mint()
	}
	t.exchanges[key] = append(t.exchanges[key], x)
	return x
}

// repeatedLocked is the oldest exchange of the key that the client does not have the answer of. Connections that have not told
// yet are asked.
func (t *Table) repeatedLocked(key Key, now time.Time) *Exchange {
	for _, x := range t.exchanges[key] {
		if x.state != cut && x.conn != nil {
			x.noticeLocked(x.conn.probe(), now)
		}
	}
	for _, x := range t.exchanges[key] {
		if x.state == cut && !x.expired(now) {
			return x
		}
	}
	return nil
}

// doubtLocked: an equal request may still turn out to be cut.
func (t *Table) doubtLocked(key Key, own *Conn, now time.Time) bool {
	for _, x := range t.exchanges[key] {
		if x.conn == nil || x.conn == own {
			continue
		}
		switch x.state {
		case running, answering:
			return true
		case written:
			if now.Sub(x.at) < grace {
				return true
			}
		}
	}
	return false
}

func (x *Exchange) expired(now time.Time) bool {
	if x.reset {
		return now.Sub(x.since) > resetWindow
	}
	return now.Sub(x.since) > KeepCut
}

// Seed adds the action of a request of an earlier life of the host that was not answered. Ids that IDOf has not made are ignored.
func (t *Table) Seed(runtime string, generation uint64, action string) {
	body, ok := bodyIn(action)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := Key{Runtime: runtime, Generation: generation, Body: body}
	for _, x := range t.exchanges[key] {
		if x.Action == action {
			return
		}
	}
	x := &Exchange{table: t, key: key, Action: action}
	t.exchanges[key] = append(t.exchanges[key], x)
	t.cutLocked(x, time.Now(), false)
}

// Len is the number of exchanges that are remembered.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, list := range t.exchanges {
		n += len(list)
	}
	return n
}

func (t *Table) moveLocked(x *Exchange, to state) {
	x.state = to
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Table) settleLocked(x *Exchange) {
	if x.state == settled {
		return
	}
	t.moveLocked(x, settled)
	list := t.exchanges[x.key]
	for i, have := range list {
		if have == x {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(t.exchanges, x.key)
		return
	}
	t.exchanges[x.key] = list
}

func (t *Table) cutLocked(x *Exchange, now time.Time, reset bool) {
	x.since, x.reset = now, reset
	t.moveLocked(x, cut)
	t.cuts = append(t.cuts, x)
	for len(t.cuts) > 0 && (len(t.cuts) > maxCut || t.cuts[0].state != cut || t.cuts[0].expired(now)) {
		if old := t.cuts[0]; old.state == cut {
			t.settleLocked(old)
		}
		t.cuts = t.cuts[1:]
	}
}

// Close ends the watching of connections that the server has closed, and waits for that.
func (t *Table) Close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.lingering {
		_ = c.Conn.Close() // its watcher ends by it
	}
	t.mu.Unlock()
	t.linger.Wait()
}
