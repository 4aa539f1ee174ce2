// Package conformance checks that a backend keeps the contract of backend.v1, clause by clause, over the wire.
//
// It runs against a plugin binary, which it launches as a host would, or against an address; nothing of the backend is imported
// or trusted. Every clause that concerns actions runs over both paths: through the plugin's Execute and straight at the agent
// that Endpoint names. Capabilities are tested, not believed: what is claimed must work, what is not claimed must be refused.
//
// A plugin's author calls Test from a go test; tools call Run. Anyone may import it; it imports the contracts and the SDK alone.
package conformance
