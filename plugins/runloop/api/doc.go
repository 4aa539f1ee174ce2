// Package api is the Runloop API as Go code: models and a client, generated from openapi.yaml beside it by scripts/generate and never
// changed by hand. A change begins in the document.
//
// The client sends what it is told and adds nothing: no key, no retries, no deadlines, no mapping of errors. Those belong to whoever
// imports it; plugins/runloop wraps it for the backend, and the emulator answers with its models.
package api
