package kernel

import "time"

// Every wait of this package. All wait for an event; the numbers bound how long it may take.
const (
	// waitStart: from the start of the interpreter to a kernel that answers. Its first start on a machine reads some 40 MB from disk.
	waitStart = 60 * time.Second
	// waitConnect: until a socket that is there accepts a connection and has shaken hands.
	waitConnect = 5 * time.Second
	// waitSubscribed: from a request to its trace on the iopub channel, before it is asked again whether the subscription has come
	// to be; a subscription is answered by nothing.
	waitSubscribed = 50 * time.Millisecond
	// waitInterrupted: how long a cell may take to end after its timeout or an interrupt of its context, before it is left behind.
	waitInterrupted = 3 * time.Second
	// waitLeft: how long a cell that was left behind may go on when the next one comes, before its kernel is killed.
	waitLeft = 10 * time.Second
	// waitHidden: what our own cells may take, such as the change of directory.
	waitHidden = 10 * time.Second
	// waitDrained: after a kernel's death, for what is still in its sockets. A process that it has forked may hold them.
	waitDrained = 500 * time.Millisecond
	// waitSend: until the kernel has taken a request from its socket; it does so while a cell runs.
	waitSend = 10 * time.Second
)
