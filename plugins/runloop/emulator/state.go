package emulator

import "slices"

// table keeps resources by id, in the order of their making. Its owner's lock guards it.
type table[T any] struct {
	byID  map[string]T
	order []string
}

func newTable[T any]() *table[T] { return &table[T]{byID: map[string]T{}} }

func (t *table[T]) add(id string, item T) {
	t.byID[id] = item
	t.order = append(t.order, id)
}

func (t *table[T]) remove(id string) {
	delete(t.byID, id)
	t.order = slices.DeleteFunc(t.order, func(other string) bool { return other == id })
}

// list returns all, the oldest first.
func (t *table[T]) list() []T {
	all := make([]T, len(t.order))
	for i, id := range t.order {
		all[i] = t.byID[id]
	}
	return all
}

// state is what the service knows; the server's lock guards it.
type state struct {
	devboxes   *table[*devbox]
	snapshots  *table[*snapshot]
	blueprints *table[*blueprint]
	secrets    *table[*secret]
	records    map[string]*table[*record]
	evictions  map[string]int64
	// evicted is closed and renewed when an eviction is announced.
	evicted chan struct{}
	// tunnels are the open ones by key.
	tunnels map[string]*tunnel
	// key is the key that was set after the start, keys are those that were made through the API.
	key   string
	keys  map[string]bool
	stats Stats
}

func newState() state {
	return state{
		devboxes: newTable[*devbox](), snapshots: newTable[*snapshot](), blueprints: newTable[*blueprint](), secrets: newTable[*secret](),
		records: map[string]*table[*record]{}, evictions: map[string]int64{}, evicted: make(chan struct{}),
		tunnels: map[string]*tunnel{}, keys: map[string]bool{},
	}
}
