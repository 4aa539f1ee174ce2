// Package emulator stands in for Runloop's public API on one machine: the same paths, shapes, states and errors, with devboxes that are
// real. Each has a disk of its own, processes, terminals and ports behind tunnels. What it serves follows plugins/runloop/api/openapi.yaml
// and, beyond that document, what the vendor's published clients send and expect.
//
// It keeps its state in memory and its devboxes' disks in one folder. Nothing is left of either when it ends, however it ends.
//
// Tests of the Runloop plugin and `openhands-rt emulate runloop` start it; nothing of the host or the agent may import it.
package emulator
