package controller_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core/controller"
)

// counts is an Observer.
type counts struct{ events, busy, leaders, unclean atomic.Int64 }

func (c *counts) Event(took time.Duration) { c.events.Add(1); c.busy.Add(int64(took)) }
func (c *counts) Elected(leaders, unclean int) {
	c.leaders.Add(int64(leaders))
	c.unclean.Add(int64(unclean))
}

// TestObserver counts the leaders that are elected: first ones, clean ones, and those
// from outside the ISR.
func TestObserver(t *testing.T) {
	in(t, 0, func(t *testing.T, c *cluster) {
		o := &counts{}
		c.observer = o
		c.set(func(s *controller.Settings) { s.UncleanElection = true })
		for id := range int32(3) {
			c.start(id)
			synctest.Wait()
		}
		b := c.leader()
		is := func(when string, leaders, unclean int64) {
			t.Helper()
			synctest.Wait()
			if o.leaders.Load() != leaders || o.unclean.Load() != unclean {
				t.Errorf("%s: %d leaders, %d unclean; want %d and %d", when, o.leaders.Load(), o.unclean.Load(), leaders, unclean)
			}
		}
		rs := b.ctl.CreateTopics(within(t, time.Minute), []controller.NewTopic{{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{1, 2}, {2, 1}}}}, false)
		if err := rs[0].Err; err != nil {
			t.Fatal(err)
		}
		is("created", 2, 0)
		c.stop(2)
		is("2 has gone", 3, 0)
		c.stop(1)
		is("nobody can lead", 3, 0)
		c.start(2)
		is("2 leads what 1 had", 5, 2)
		if o.events.Load() == 0 {
			t.Error("no event was told")
		}
		if n := b.ctl.Waiting(); n != 0 {
			t.Errorf("%d events wait", n)
		}
	})
}
