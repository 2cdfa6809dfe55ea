package controller_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core/controller"
)

// create makes a topic through a broker, and fails the test if that fails.
func create(t *testing.T, b *broker, n controller.NewTopic) controller.TopicResult {
	t.Helper()
	r := b.ctl.CreateTopics(within(t, time.Minute), []controller.NewTopic{n}, false)[0]
	if r.Err != nil {
		t.Fatalf("create topic %s: %v", n.Name, r.Err)
	}
	return r
}

func TestOneBroker(t *testing.T) {
	in(t, 1, func(t *testing.T, c *cluster) {
		b := c.brokers[0]
		r := create(t, b, controller.NewTopic{Name: "t", Partitions: 3, ReplicationFactor: 1, Configs: map[string]string{"retention.ms": "5"}})
		got, ok := b.meta.Current().Topic("t")
		if !ok || got.ID != r.ID || len(got.Partitions) != 3 {
			t.Fatalf("metadata has %+v", got)
		}
		for i, p := range got.Partitions {
			if p.Leader != 0 || !cmp.Equal(p.ISR, []int32{0}) {
				t.Errorf("partition %d is %+v", i, p)
			}
		}
		synctest.Wait()
		if n := get(b, func() int { return len(b.parts) }); n != 3 {
			t.Errorf("the broker holds %d partitions", n)
		}
		if got := get(b, func() map[string]string { return b.configs["topics/t"] }); !cmp.Equal(got, map[string]string{"retention.ms": "5"}) {
			t.Errorf("the feed has %v", got)
		}
		d := b.ctl.DeleteTopics(within(t, time.Minute), []controller.TopicRef{{ID: r.ID}})[0]
		if d.Err != nil || d.Name != "t" {
			t.Fatalf("delete: %+v", d)
		}
		s := c.session()
		defer closing(t, s)
		for _, path := range []string{"/brokers/topics/t", "/config/topics/t", "/admin/delete_topics/t"} {
			if _, err := s.Get(context.Background(), path); err == nil {
				t.Errorf("%s is still there", path)
			}
		}
		// The name is free at once.
		if again := create(t, b, controller.NewTopic{Name: "t", Partitions: 1, ReplicationFactor: 1}); again.ID == r.ID {
			t.Error("the new topic has the old id")
		}
	})
}
