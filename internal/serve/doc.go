// Package serve is what transports share: it turns accepted byte streams into
// sessions of length-prefixed frames and keeps the promises of core.Listener.
//
// A transport brings a net.Listener and, for each accepted connection, a [Stream];
// serve does the rest: connection limits, reading frames, keeping replies in
// order, sending them, idle timeouts, draining and closing.
//
// # Who does what
//
// Each connection has one goroutine, its own. It reads a frame, calls Serve, and,
// when the reply was given by then, writes it. A reply given later by some other
// goroutine is written by the connection's writer, a goroutine that is started
// when there is something to write and ends when there is nothing more. The
// writing flag of a connection says which of the two owns its sender; the lock is
// never held over a system call.
//
// Small replies are gathered while complete requests are still buffered, and leave
// in one write. Because the next Serve may block, gathered replies also leave
// after a millisecond, whatever happens.
//
// # Lock order
//
// A listener's lock may be held while a connection's lock is taken, never the
// other way round. Replies are released without any lock.
package serve
