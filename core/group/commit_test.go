package group_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/internal/leaktest"
)

func codesAre(t *testing.T, doing string, got []int16, want ...*kerr.Error) {
	t.Helper()
	for i, e := range want {
		code := int16(0)
		if e != nil {
			code = e.Code
		}
		if i >= len(got) || got[i] != code {
			t.Errorf("%s: codes %v, want %v at %d", doing, got, e, i)
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: codes %v, want %d of them", doing, got, len(want))
	}
}

// TestMetadataTooLarge: one partition with too much of it does not harm the others.
func TestMetadataTooLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		req := commitRequest("g", at{"a", 0, 1}, at{"a", 1, 2}, at{"b", 0, 3})
		long, short := strings.Repeat("x", n.settings.MetadataMaxBytes+1), strings.Repeat("y", n.settings.MetadataMaxBytes)
		req.Topics[0].Partitions[1].Metadata, req.Topics[1].Partitions[0].Metadata = &long, &short
		codesAre(t, "commit", n.send(req), nil, kerr.OffsetMetadataTooLarge, nil)
		n.expect("g", at{"a", 0, 1}, at{"b", 0, 3})
		fetch := kmsg.NewOffsetFetchRequestGroup()
		fetch.Group = "g"
		if p := n.FetchOffsets(t.Context(), &fetch, false).Topics[1].Partitions[0]; *p.Metadata != short {
			t.Errorf("metadata %.20q", *p.Metadata)
		}
	})
}

// TestCommitFields: leader epoch, metadata and what is not committed, in the answer to
// a fetch that names partitions.
func TestCommitFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		req := commitRequest("g", at{"a", 2, 9})
		req.Topics[0].Partitions[0].LeaderEpoch = 4
		req.Topics[0].Partitions[0].Metadata = kmsg.StringPtr("note")
		codesAre(t, "commit", n.send(req), nil)
		check := func() {
			t.Helper()
			fetch := kmsg.NewOffsetFetchRequestGroup()
			fetch.Group = "g"
			fetch.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "a", Partitions: []int32{2, 7}}, {Topic: "z", Partitions: []int32{0}}}
			got := n.FetchOffsets(t.Context(), &fetch, true)
			want := "a/2=9 epoch 4 note code 0; a/7=-1 epoch -1  code 0; z/0=-1 epoch -1  code 0; "
			text := ""
			for _, rt := range got.Topics {
				for _, p := range rt.Partitions {
					text += fmt.Sprintf("%s/%d=%d epoch %d %s code %d; ", rt.Topic, p.Partition, p.Offset, p.LeaderEpoch, *p.Metadata, p.ErrorCode)
				}
			}
			if text != want {
				t.Errorf("fetched %s, want %s", text, want)
			}
		}
		check()
		n.restart()
		check()
	})
}

// TestCommitOfAStranger: a generation where there is no group, and one that is no
// member's.
func TestCommitOfAStranger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		req := commitRequest("g", at{"a", 0, 1}, at{"a", 1, 1})
		req.Generation, req.MemberID = 3, "m"
		codesAre(t, "version 8", n.send(req), kerr.IllegalGeneration, kerr.IllegalGeneration)
		req.Version = 9
		codesAre(t, "version 9", n.send(req), kerr.GroupIDNotFound, kerr.GroupIDNotFound)
		n.expect("g")
		long := commitRequest(strings.Repeat("g", 1<<15), at{"a", 0, 1})
		codesAre(t, "a group id that no record has room for", n.send(long), kerr.InvalidGroupID)
		odd := commitRequest("g", at{strings.Repeat("t", 1<<15), 0, 1}, at{"a", 0, 1})
		codesAre(t, "a topic that no record has room for", n.send(odd), kerr.InvalidTopicException, nil)
	})
}

// TestMembersCommit: with members only they may commit, in their generation.
func TestMembersCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		m := n.join("g", "", "topic")
		n.sync("g", m)
		req := commitRequest("g", at{"topic", 0, 1})
		codesAre(t, "nobody", n.send(req), kerr.UnknownMemberID)
		req.Generation, req.MemberID = m.Generation, "other"
		codesAre(t, "another member", n.send(req), kerr.UnknownMemberID)
		req.Generation, req.MemberID = m.Generation+1, m.MemberID
		codesAre(t, "a later generation", n.send(req), kerr.IllegalGeneration)
		n.expect("g")
		req.Generation = m.Generation
		codesAre(t, "the member", n.send(req), nil)
		n.expect("g", at{"topic", 0, 1})
		n.restart()
		n.expect("g", at{"topic", 0, 1})
		req.Topics[0].Partitions[0].Offset = 2
		codesAre(t, "the member after a restart", n.send(req), nil)
		n.expect("g", at{"topic", 0, 2})
	})
}

// TestCommitsAtOnce: commits that wait for one another share batches, and each gets its
// own answer.
func TestCommitsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.parts = 1 })
		defer n.stop()
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				id := fmt.Sprint("g", i)
				for o := range int64(20) {
					req := commitRequest(id, at{"a", 0, o})
					if i%5 == 0 && o%2 == 1 {
						req.Generation = 1 // refused
					}
					resp := kmsg.NewPtrOffsetCommitResponse()
					if err := n.CommitOffsets(context.Background(), group.Caller{}, req, resp); err != nil {
						t.Error(err)
					}
					if code := resp.Topics[0].Partitions[0].ErrorCode; (code != 0) != (req.Generation == 1) {
						t.Errorf("%s at %d: code %d", id, o, code)
					}
				}
			})
		}
		wg.Wait()
		check := func() {
			t.Helper()
			for i := range 50 {
				want := int64(19)
				if i%5 == 0 {
					want = 18
				}
				n.expect(fmt.Sprint("g", i), at{"a", 0, want})
			}
		}
		check()
		if got := n.Stats(); got.Commits != 40*20+10*10 || got.Offsets != 50 {
			t.Errorf("stats %+v", got)
		}
		n.restart()
		check()
	})
}

// TestTooLarge: a commit that is larger than the topic allows harms nobody else.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.topic.MaxMessageBytes = 2000 })
		defer n.stop()
		var many []at
		for p := range int32(100) {
			many = append(many, at{"a", p, 1})
		}
		want := make([]*kerr.Error, len(many))
		for i := range want {
			want[i] = kerr.InvalidCommitOffsetSize
		}
		codesAre(t, "commit", n.send(commitRequest("g", many...)), want...)
		n.expect("g")
		n.commit("g", many[:10]...)
	})
}

// TestAHugeCommitLeavesNothing: what was made room for goes with the request.
func TestAHugeCommitLeavesNothing(t *testing.T) { // counts what is allocated, so it runs alone
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.parts = 1 })
		defer n.stop()
		n.commit("g", at{"a", 0, 1})
		before := leaktest.Heap()
		req := commitRequest("g", at{"a", 0, 1})
		req.Topics[0].Partitions = slices.Repeat(req.Topics[0].Partitions, 300_000)
		if code := n.send(req)[0]; code != kerr.InvalidCommitOffsetSize.Code {
			t.Errorf("answered with %v", kerr.ErrorForCode(code))
		}
		req.Topics = nil
		if more := leaktest.Heap() - before; more > 4<<20 {
			t.Errorf("%d bytes are held", more)
		}
		n.commit("g", at{"a", 0, 2})
	})
}

// TestRetentionOfOldClients: OffsetCommit 1 has a time of its own, 2 to 4 an expiry.
func TestRetentionOfOldClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 2})
		now := time.Now()
		old := commitRequest("old", at{"a", 0, 1}, at{"a", 1, 1})
		old.Version = 1
		old.Topics[0].Partitions[0].Timestamp = now.Add(-n.settings.Retention + 30*time.Minute).UnixMilli()
		codesAre(t, "version 1", n.send(old), nil, nil)
		brief := commitRequest("brief", at{"a", 0, 1})
		brief.Version, brief.RetentionTimeMillis = 3, (2 * time.Hour).Milliseconds()
		codesAre(t, "version 3", n.send(brief), nil)
		none := commitRequest("none", at{"a", 0, 1})
		none.Version, none.RetentionTimeMillis = 4, -1
		codesAre(t, "version 4 without", n.send(none), nil)
		n.restart()
		n.topics(map[string]int{"a": 2})
		time.Sleep(time.Hour)
		synctest.Wait()
		n.expect("old", at{"a", 1, 1})
		n.expect("brief", at{"a", 0, 1})
		time.Sleep(time.Hour + n.settings.RetentionCheck)
		synctest.Wait()
		n.expect("brief")
		n.expect("none", at{"a", 0, 1})
		time.Sleep(n.settings.Retention)
		synctest.Wait()
		for _, id := range []string{"old", "brief", "none"} {
			n.expect(id)
		}
		if got := n.Stats(); got.Offsets != 0 || len(got.Groups) != 0 || got.Expired != 4 {
			t.Errorf("stats %+v", got)
		}
	})
}

// TestFetchAll lists topics and partitions in order.
func TestFetchAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		var all []at
		for _, topic := range []string{"a", "b", "c"} {
			for p := range int32(12) {
				all = append(all, at{topic, p, int64(p)})
			}
		}
		mixed := slices.Clone(all)
		slices.Reverse(mixed)
		n.commit("g", mixed...)
		n.expect("g", all...)
	})
}
