package emulator

import (
	"net/http"
	"sync"
)

// maxReplays is how many answers are kept; the oldest go first.
const maxReplays = 10000

// replays keeps the answers to POST requests by their x-request-id, so that a client that repeats a request does not repeat its effect.
// A repetition that comes while the first is being served waits for its answer.
type replays struct {
	mu    sync.Mutex
	known map[string]*answer
	order []string
}

// answer is one that was given, or will be when done is closed.
type answer struct {
	done   chan struct{}
	status int
	body   []byte
}

// open returns the answer of a key and whether the caller is the first, who has to close or forget it.
func (p *replays) open(key string) (a *answer, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a = p.known[key]; a != nil {
		return a, false
	}
	if p.known == nil {
		p.known = map[string]*answer{}
	}
	a = &answer{done: make(chan struct{})}
	p.known[key] = a
	p.order = append(p.order, key)
	if len(p.order) > maxReplays {
		delete(p.known, p.order[0])
		p.order = p.order[1:]
	}
	return a, true
}

// settle gives an answer to those who wait for it. Only success is kept: a failure has had no effect, and may be tried again.
func (p *replays) settle(key string, a *answer, status int, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.status, a.body = status, body
	if status != http.StatusOK && p.known[key] == a {
		delete(p.known, key)
	}
	close(a.done)
}
