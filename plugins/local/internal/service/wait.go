package service

import "time"

// Every wait of this backend; each is for an event, the numbers bound how long it may take.
const (
	// readyWait: from the start of an agent until it serves.
	readyWait = 30 * time.Second
	// infoWait: an agent's answer to who it is.
	infoWait = 5 * time.Second
	// shutdownWait: an agent ends its tree; exitWait: then itself. After them it is killed.
	shutdownWait = 10 * time.Second
	exitWait     = 3 * time.Second
	// killWait: what was killed is gone.
	killWait = 15 * time.Second
	// cleanWait bounds the removal of what a failed or cancelled call leaves, which no caller waits for.
	cleanWait = 60 * time.Second
	// heartbeat of a status watch.
	heartbeat = 15 * time.Second
)
