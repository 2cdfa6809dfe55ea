// Package transporttest is the conformance suite of core.Transport: every
// implementation passes it.
package transporttest

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/leaktest"
)

// Options say what the suite may expect of a transport beyond the contract.
type Options struct {
	// Address is where listeners are bound; empty for 127.0.0.1:0.
	Address string
	// DialRaw connects to a listener of tr and returns the bytes of the connection,
	// so that the suite can send what no client should. Nil skips those tests.
	DialRaw func(ctx context.Context, tr core.Transport, addr string) (net.Conn, error)
	// MaxPending is how many requests of one connection may wait for their reply
	// before the transport stops reading; 0 where it is not known.
	MaxPending int
	// SkipPeerWatch skips the test that a blocked Serve learns of a lost client,
	// which the contract does not ask of every transport.
	SkipPeerWatch bool
}

// Run runs the suite. open makes a new transport; the suite closes the listeners
// and connections that it makes.
func Run(t *testing.T, open func(t *testing.T) core.Transport, opts Options) {
	t.Helper()
	if opts.Address == "" {
		opts.Address = "127.0.0.1:0"
	}
	before := goleak.IgnoreCurrent()
	t.Run("suite", func(t *testing.T) {
		for _, c := range cases() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				if c.raw && opts.DialRaw == nil {
					t.Skip("the transport has no byte stream to offer")
				}
				c.run(&env{T: t, opts: opts, transport: open(t), ledger: &ledger{t: t}})
			})
		}
	})
	leaktest.None(t, before)
}

// test is one case of the suite.
type test struct {
	name string
	raw  bool // needs DialRaw
	run  func(e *env)
}

func cases() []test {
	return []test{
		{"Echo", false, testEcho},
		{"DialTwice", false, testDialTwice},
		{"DialNobody", false, testDialNobody},
		{"ReadFrameContext", false, testReadFrameContext},
		{"Pipelining", true, testPipelining},
		{"DeferredOutOfOrder", false, testDeferred},
		{"PendingBound", false, testPendingBound},
		{"Barrier", false, testBarrier},
		{"BarrierContext", false, testBarrierContext},
		{"BarrierConnectionLost", false, testBarrierLost},
		{"NoReply", false, testNoReply},
		{"GatheredRepliesLeave", true, testGatheredLeave},
		{"ReplyFromElsewhereDuringServe", false, testReplyElsewhere},
		{"SessionError", false, testSessionError},

		{"MalformedFrames", true, testMalformed},
		{"FrameLimits", true, testFrameLimits},
		{"HalfFrame", true, testHalfFrame},
		{"ByteAtATime", true, testByteAtATime},
		{"FrameSizes", true, testFrameSizes},

		{"Slices", false, testSlices},
		{"ManySlices", false, testManySlices},
		{"ShrunkenFile", true, testShrunken},
		{"WriteFrameSlices", false, testWriteFrameSlices},

		{"MaxConnections", true, testMaxConnections},
		{"PerAddress", true, testPerAddress},
		{"OpenRefuses", true, testOpenRefuses},
		{"IdleTimeout", true, testIdle},
		{"SlowReader", true, testSlowReader},

		{"Peer", false, testPeer},
		{"DrainInService", false, testDrain},
		{"DrainContext", false, testDrainContext},
		{"DrainIdle", true, testDrainIdle},
		{"CloseTwice", false, testCloseTwice},
		{"CloseDuringEverything", false, testCloseStorm},
		{"Panic", false, testPanic},
		{"DisconnectEndsContext", true, testDisconnect},
		{"DisconnectWhileServing", true, testDisconnectServing},
		{"LateReplies", true, testLateReplies},
	}
}
