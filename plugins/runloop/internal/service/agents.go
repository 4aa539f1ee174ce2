package service

import (
	"sync"

	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
)

// agents keep the connections to devboxes' agents. The zero value is ready.
type agents struct {
	mu   sync.Mutex
	byID map[string]*reached
}

// reached is an agent as one credential reaches it.
type reached struct {
	client     *client.Client
	credential string
}

// get returns a client that was put for this credential, nil if there is none.
func (a *agents) get(id, credential string) *client.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.byID[id]; r != nil && r.credential == credential {
		return r.client
	}
	return nil
}

// put keeps a client in the place of another one.
func (a *agents) put(id, credential string, c *client.Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID == nil {
		a.byID = map[string]*reached{}
	}
	if old := a.byID[id]; old != nil {
		_ = old.client.Close() // Only connections that nobody uses.
	}
	a.byID[id] = &reached{client: c, credential: credential}
}

// drop forgets a devbox.
func (a *agents) drop(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.byID[id]; old != nil {
		_ = old.client.Close() // Only connections that nobody uses.
		delete(a.byID, id)
	}
}

func (a *agents) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, r := range a.byID {
		_ = r.client.Close() // Only connections that nobody uses.
		delete(a.byID, id)
	}
}
