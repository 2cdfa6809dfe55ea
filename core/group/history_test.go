package group_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group"
)

// history drives commits of a few groups over a replicated log: with a follower that
// lags, leaders that change and cut what was not replicated, and restarts. Each group
// commits growing offsets, so that one that goes back is seen.
type history struct {
	*node
	rng *rand.Rand
	// By group: the highest offset that was answered, shown to a fetch, and sent.
	acked, shown, sent map[string]int64
	pending            map[string]<-chan int16
	// behind is set from a change of the leader until it knows that its log is
	// replicated.
	behind bool
}

// TestHistories: what was answered, or shown to anybody, never goes back, whatever
// happens to the leader.
func TestHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &history{
					rng:   rand.New(rand.NewPCG(seed, 1)),
					acked: map[string]int64{}, shown: map[string]int64{}, sent: map[string]int64{}, pending: map[string]<-chan int16{},
				}
				h.node = open(t, func(n *node) { n.isr, n.parts = []int32{self, 2}, 2 })
				defer h.stop()
				for range 150 {
					h.step()
					h.look()
				}
				h.follow()
				h.behind = false
				h.look()
				h.restart()
				h.follow()
				h.behind = false
				h.look()
				if len(h.acked) == 0 {
					t.Error("nothing was ever answered")
				}
			})
		})
	}
}

func (h *history) step() {
	switch h.rng.IntN(12) {
	case 0, 1, 2, 3, 4, 5:
		id := fmt.Sprint("g", h.rng.IntN(5))
		if h.pending[id] == nil {
			h.sent[id]++
			h.pending[id] = h.begin(commitRequest(id, at{"a", 0, h.sent[id]}, at{"b", 1, h.sent[id]}))
		}
	case 6, 7, 8:
		h.follow()
		h.behind = false
	case 9:
		time.Sleep(time.Duration(h.rng.IntN(8000)) * time.Millisecond)
		synctest.Wait()
	case 10:
		h.lead(2)
		if h.rng.IntN(2) == 0 {
			h.truncate()
		}
		h.lead(self)
		h.behind = true
	case 11:
		if h.rng.IntN(3) == 0 {
			h.restart()
			h.behind = true
		}
	}
	for id := range maps.Clone(h.pending) {
		select {
		case code := <-h.pending[id]:
			delete(h.pending, id)
			if code == 0 {
				h.acked[id] = h.sent[id]
			}
		default:
		}
	}
}

// truncate cuts what the new leader does not have: what was never replicated.
func (h *history) truncate() {
	for p := range h.parts {
		part, _ := h.manager.Partition(group.TopicName, p)
		if _, err := part.TruncateTo(context.Background(), part.HighWatermark()); err != nil {
			h.t.Fatal(err)
		}
	}
}

// look fetches what every group has committed.
func (h *history) look() {
	h.t.Helper()
	for id, sent := range h.sent {
		req := kmsg.NewOffsetFetchRequestGroup()
		req.Group = id
		req.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "a", Partitions: []int32{0}}, {Topic: "b", Partitions: []int32{1}}}
		resp := h.FetchOffsets(context.Background(), &req, false)
		if resp.ErrorCode == kerr.CoordinatorLoadInProgress.Code && h.behind {
			continue
		}
		if resp.ErrorCode != 0 {
			h.t.Fatalf("fetch of %s: code %d", id, resp.ErrorCode)
		}
		got := max(resp.Topics[0].Partitions[0].Offset, 0)
		if other := max(resp.Topics[1].Partitions[0].Offset, 0); other != got {
			h.t.Fatalf("%s: half of a commit: %d and %d", id, got, other)
		}
		if got > sent || got < h.acked[id] || got < h.shown[id] {
			h.t.Fatalf("%s has committed %d: answered was %d, shown %d, sent %d", id, got, h.acked[id], h.shown[id], sent)
		}
		h.shown[id] = max(h.shown[id], got)
	}
}
