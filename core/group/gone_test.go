package group_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core/metadata"
)

// TestTopicsThatWentUnseen: what groups have committed for a topic that was deleted while
// nobody coordinated them goes when the metadata have not had the topic for long. What is
// merely not known yet stays.
func TestTopicsThatWentUnseen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		pass := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
		}
		all := []at{{"a", 0, 1}, {"gone", 0, 3}, {"late", 0, 2}}
		n.topics(map[string]int{"a": 1, "gone": 1, "late": 1})
		n.commit("g", all...)
		n.commit("only", at{"gone", 5, 1})
		n.restart() // which knows no topics but the groups'

		// Where nothing is known of the cluster, that a topic is not there says nothing.
		known := n.cache.Current()
		n.cache.Update(func(*metadata.Image) *metadata.Image { return metadata.NewImage("cluster", -1, 0, nil, nil) })
		pass(5 * n.settings.RetentionCheck)
		n.expect("g", all...)
		n.cache.Update(func(*metadata.Image) *metadata.Image { return known })
		n.topics(map[string]int{"a": 1})
		pass(n.settings.RetentionCheck)
		n.expect("g", all...)
		n.topics(map[string]int{"late": 1})
		left := all
		for range 2 {
			pass(2 * n.settings.RetentionCheck)
			left = []at{all[0], all[2]}
			n.expect("g", left...)
			n.expect("only")
			n.restart()
			n.topics(map[string]int{"a": 1, "late": 1})
		}
		if got := n.listed(nil, nil); len(got) != 1 {
			t.Errorf("left: %q", got)
		}
		// It is long only if it is without a break.
		for range 5 {
			pass(n.settings.RetentionCheck)
			n.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(self, 1, nil, []*metadata.Topic{{Name: "a"}}) })
			pass(n.settings.RetentionCheck)
			n.topics(map[string]int{"a": 1})
		}
		n.expect("g", left...)
	})
}

// TestDeletionThatCouldNotBeStored: when a topic goes while the log takes no tombstones, its
// offsets go later.
func TestDeletionThatCouldNotBeStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.isr, n.topic.MinInSyncReplicas = []int32{self, 2}, 2 })
		defer n.stop()
		n.topics(map[string]int{"a": 1, "gone": 1})
		first := n.begin(commitRequest("g", at{"a", 0, 1}, at{"gone", 0, 1}))
		n.follow()
		answered(t, first, nil)
		n.shrink()
		n.cache.Update(func(im *metadata.Image) *metadata.Image {
			return im.With(self, 1, nil, []*metadata.Topic{{Name: "gone"}})
		})
		n.TopicsDeleted([]string{"gone"})
		n.isr, n.shrunk = []int32{self, 2}, false
		n.lead(self)
		n.follow()
		n.expect("g", at{"a", 0, 1}, at{"gone", 0, 1})
		time.Sleep(3 * n.settings.RetentionCheck)
		synctest.Wait()
		n.follow()
		n.expect("g", at{"a", 0, 1})
	})
}
