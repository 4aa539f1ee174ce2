// Package serve is the main of a backend plugin: an author implements backend.v1 and calls Main.
//
//	func main() {
//		serve.Main(serve.Options{Name: "local", Version: version, New: local.New})
//	}
//
// Main gives the plugin what a host relies on:
//   - Standard output carries the handshake line and nothing else: fd 1 points to stderr before anything of the plugin runs, so
//     that a stray print, in whatever language a linked library is written, is a log line and not a broken handshake.
//   - Errors travel typed (sdk/rterr), a panic costs one call and not the process, messages are at most MaxMessage both ways.
//   - SIGTERM and SIGINT drain and exit 0; a broken log pipe (SIGPIPE) does not kill.
//   - The process ends when its host does, however that ended: the host gives it the read end of a pipe as standard input
//     (EnvLifeline=stdin), whose end of file means "the host is gone"; a pidfd on the parent says the same on Linux under any host.
//   - Drain works without the author's help: new Connects are refused, running calls are awaited.
//
// The same binary answers "describe" (DescribeResponse as JSON, nothing is served) and "serve --address" (the same contract at a
// plain address, for `address:` backends and for debugging).
//
// Plugin authors and host/plugin import it; nothing else does. It is the only package of the SDK that sees go-plugin.
package serve
