// Package host finds, checks, starts and supervises plugins, and makes parts of a
// broker out of what they offer.
//
// Each plugin is one process. One goroutine owns it: it starts the process, checks its
// checksum before and its components after, configures them, watches its health,
// starts it again after growing pauses when it dies, and ends it. Calls (Link) go to
// the process that runs; a call that the process dies under waits for the next one
// and is made once more. A component that fails again and again is left alone for a
// while: its breaker is open, and the built-in does its work.
//
// A plugin does not outlive its broker, however that ends: it has a socket that ends
// with the broker (the lifeline), and on Linux the kernel sends it SIGTERM.
package host
