// Package backend helps to write a backend whose sandboxes run the agent: it implements those methods of backend.v1 that are
// agent.v1 through the plugin.
//
// Plugins import it. It takes the agent as an interface, which sdk/agent/client satisfies.
package backend
