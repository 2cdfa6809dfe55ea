package controller_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/tree"
)

// TestLogDirFails: a broker that notifies of a failed directory loses the leaderships of
// the replicas in it, and no others; it has them again when the directory is back, or
// the broker.
func TestLogDirFails(t *testing.T) {
	in(t, 2, func(t *testing.T, c *cluster) {
		create(t, c.brokers[0], controller.NewTopic{Name: "one", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{1}, {1}}})
		create(t, c.brokers[0], controller.NewTopic{Name: "two", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{1, 0}, {0, 1}}})
		s := c.session()
		defer closing(t, s)
		disk := func(code int16) {
			t.Helper()
			b := c.broker(1)
			b.set(func() {
				for _, tp := range []core.TopicPartition{{Topic: "one"}, {Topic: "two"}, {Topic: "two", Partition: 1}} {
					b.storage[tp] = code // the other one lies in another directory
				}
			})
			if err := controller.NotifyLogDirs(t.Context(), s, 1); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if left, _, err := s.Children(t.Context(), tree.LogDirEventsPath); err != nil || len(left) > 0 {
				t.Errorf("the notification stays: %v, %v", left, err)
			}
		}
		shows := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			for id := range int32(2) {
				got := []string{}
				for _, name := range []string{"one", "two"} {
					topic, _ := c.broker(id).meta.Current().Topic(name)
					for _, p := range topic.Partitions {
						got = append(got, fmt.Sprintf("leader %d, isr %v, offline %v", p.Leader, p.ISR, p.Offline))
					}
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s, broker %d (-want +got):\n%s", when, id, d)
				}
			}
		}
		shows("at first", "leader 1, isr [1], offline []", "leader 1, isr [1], offline []", "leader 1, isr [1 0], offline []", "leader 0, isr [0 1], offline []")
		disk(kerr.KafkaStorageError.Code)
		failed := []string{"leader -1, isr [1], offline [1]", "leader 1, isr [1], offline []", "leader 0, isr [0], offline [1]", "leader 0, isr [0], offline [1]"}
		shows("failed", failed...)
		disk(kerr.KafkaStorageError.Code) // once more
		shows("failed twice", failed...)

		disk(0)
		shows("back", "leader 1, isr [1], offline []", "leader 1, isr [1], offline []", "leader 0, isr [0], offline []", "leader 0, isr [0], offline []")

		disk(kerr.KafkaStorageError.Code)
		shows("failed again", failed...)
		c.stop(1)
		b := c.start(1) // with a disk that works
		synctest.Wait()
		shows("restarted", "leader 1, isr [1], offline []", "leader 1, isr [1], offline []", "leader 0, isr [0], offline []", "leader 0, isr [0], offline []")
		if p := get(b, func() held { return b.parts[core.TopicPartition{Topic: "one"}] }); p.state.Leader != 1 {
			t.Errorf("the restarted broker was told of leader %d", p.state.Leader)
		}
	})
}

// TestLogDirThatComesAndGoes: a replica that its broker takes as a follower and not as
// a leader is not elected over and over.
func TestLogDirThatComesAndGoes(t *testing.T) {
	in(t, 1, func(t *testing.T, c *cluster) {
		o := &counts{}
		c.observer = o
		c.start(1)
		synctest.Wait()
		create(t, c.leader(), controller.NewTopic{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{1}}})
		b, tp := c.broker(1), core.TopicPartition{Topic: "t"}
		b.set(func() { b.fussy = true; b.storage[tp] = kerr.KafkaStorageError.Code })
		s := c.session()
		defer closing(t, s)
		for range 2 {
			if err := controller.NotifyLogDirs(t.Context(), s, 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		node, err := s.Get(context.Background(), tree.PartitionStatePath("t", 0))
		if err != nil {
			t.Fatal(err)
		}
		if st, err := tree.DecodePartitionState(node.Data); err != nil || st.LeaderEpoch > 6 || st.Leader != -1 {
			t.Errorf("%+v after two notifications, %v", st, err)
		}
	})
}
