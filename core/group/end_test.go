package group_test

import (
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TestJoinEndsWithCoordinator: a member of the classic protocol that joins a group of the
// consumer protocol is answered when the coordinator ends before the join counts.
func TestJoinEndsWithCoordinator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.isr = []int32{self, 2} })
		defer n.stop()
		n.follow()
		n.topics(map[string]int{"a": 2})
		joined := make(chan int16, 1)
		go n.beat(beatRequest("g", "m", 0, "a"))
		synctest.Wait()
		go func() { joined <- n.tryJoin(joinRequest("g", "", "a")).ErrorCode }()
		synctest.Wait()
		unanswered(t, joined)
		n.Close()
		answered(t, joined, kerr.NotCoordinator)
	})
}
