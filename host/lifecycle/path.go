package lifecycle

import "slices"

// EventFor returns the event that leads from from to to in one step, for statuses that a backend's Connect stream reports;
// false if no single event does. Where two do (resume and restart), it is the one with the lower number.
func EventFor(from, to Status) (Event, bool) {
	for _, e := range Events() {
		if reached, ok := target(from, e); ok && reached == to {
			return e, true
		}
	}
	return EventUnspecified, false
}

// Path returns the shortest row of events of a start's progress that leads from from to to. A backend may report each status on
// the way or go straight to a later one: applying the path keeps every step of the machine legal. from == to is an empty path.
// false: the way up does not lead there (a status behind from, or Error, Disconnected, Stopped).
func Path(from, to Status) ([]Event, bool) {
	if from == to {
		return nil, from.Valid()
	}
	type visit struct {
		at  Status
		way []Event
	}
	seen := map[Status]bool{from: true}
	for queue := []visit{{at: from}}; len(queue) > 0; queue = queue[1:] {
		here := queue[0]
		for _, t := range Table() {
			if !t.Progress || !contains(t.From, here.at) || seen[t.To] {
				continue
			}
			way := append(slices.Clone(here.way), t.On)
			if t.To == to {
				return way, true
			}
			seen[t.To] = true
			queue = append(queue, visit{t.To, way})
		}
	}
	return nil, false
}
