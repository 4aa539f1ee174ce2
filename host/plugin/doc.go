// Package plugin launches backends and keeps them alive. It is the only package of the host that sees go-plugin.
//
// A Supervisor owns one configured backend. It launches the plugin's binary (`command:`) or dials an address (`address:`); after
// the connection both are the same: Describe, Configure, the host's adoption of what is there (OnUp), then Client hands it out.
// When the plugin dies, hangs or is cut off, the supervisor starts it again at once, then with growing pauses, then not at all
// (quarantine), and replays the same steps each time before new work reaches it.
//
// What it guarantees to its users:
//   - Every error of a client is an *rterr.Error. One that the plugin's death caused is PluginUnavailable and carries the exit
//     status and the last lines that the plugin wrote.
//   - No call of a Supervisor blocks on a plugin beyond its context and the limits in limits.go.
//   - No plugin outlives its host, however the host ends, and nothing of a plugin's process group outlives the plugin.
//   - Whatever a plugin writes, to whichever stream, costs bounded memory and a bounded share of the log; what is dropped is
//     counted. The last 64 KiB are kept.
//
// go-plugin negotiates, makes the certificates (AutoMTLS, always) and dials. Launching, watching, reading and ending the process
// is done here, through its runner.Runner, because its own way inherits the host's environment, notices a death only when every
// holder of a pipe is gone, trusts the types in log lines, and waits without limit.
package plugin
