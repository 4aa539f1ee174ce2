package service

import "time"

// waits are how long things may take; tests shorten them.
type waits struct {
	// ready bounds the time from the agent's start to its answer through the tunnel; first and most are the shortest and the
	// longest wait between two looks.
	ready, first, most time.Duration
	// info bounds one look.
	info time.Duration
	// blueprint is the wait between two looks at a build, snapshot that between two looks at a snapshot.
	blueprint, snapshot time.Duration
	// clean bounds the removal of what a failed or cancelled call leaves, which no caller waits for.
	clean time.Duration
	// heartbeat of a status watch.
	heartbeat time.Duration
	// evictions is the wait before the stream of evictions is opened again; it doubles up to evictionsMost.
	evictions, evictionsMost time.Duration
	// logs bounds the look at a failed devbox's log.
	logs time.Duration
}

func defaultWaits() waits {
	return waits{
		ready: 2 * time.Minute, first: 20 * time.Millisecond, most: 2 * time.Second, info: 5 * time.Second,
		blueprint: 2 * time.Second, snapshot: time.Second, clean: time.Minute, heartbeat: 15 * time.Second,
		evictions: 500 * time.Millisecond, evictionsMost: 30 * time.Second, logs: 3 * time.Second,
	}
}

// maxPause is the longest pause between two tries of a long poll.
const maxPause = 10 * time.Second
