package group_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/storage/mmap"
)

// benched is a node whose logs are files, with Kafka's 50 partitions.
func benched(b *testing.B) *node {
	b.Helper()
	f, err := mmap.Open(b.Context(), mmap.Options{Dirs: []string{filepath.Join(b.TempDir(), "logs")}, Clock: core.SystemClock{}})
	if err != nil {
		b.Fatal(err)
	}
	n := open(b, func(n *node) { n.outside, n.storage, n.parts = true, f, 50 })
	b.Cleanup(func() {
		n.stop()
		if err := f.Close(); err != nil {
			b.Error(err)
		}
	})
	return n
}

// spread calls f b.N times from so many goroutines.
func spread(b *testing.B, goroutines int, f func(i int)) {
	var wg sync.WaitGroup
	each := b.N / goroutines
	for g := range goroutines {
		n := each
		if g < b.N%goroutines {
			n++
		}
		wg.Go(func() {
			for range n {
				f(g)
			}
		})
	}
	wg.Wait()
}

// BenchmarkCommit commits one offset at a time, with as many clients as groups.
func BenchmarkCommit(b *testing.B) {
	for _, groups := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			n := benched(b)
			b.ReportAllocs()
			b.ResetTimer()
			spread(b, groups, func(g int) {
				req := commitRequest(fmt.Sprint("group-", g), at{"topic", 3, 1})
				resp := kmsg.NewPtrOffsetCommitResponse()
				if err := n.CommitOffsets(context.Background(), group.Caller{}, req, resp); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
					b.Error(err, resp.Topics)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// BenchmarkCommitAtOnce has many clients commit to one partition of the topic: they
// share batches.
func BenchmarkCommitAtOnce(b *testing.B) {
	for _, clients := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			n := benched(b)
			b.ReportAllocs()
			b.ResetTimer()
			spread(b, clients, func(g int) {
				req := commitRequest("group", at{"topic", int32(g), 1})
				resp := kmsg.NewPtrOffsetCommitResponse()
				if err := n.CommitOffsets(context.Background(), group.Caller{}, req, resp); err != nil {
					b.Error(err)
				}
			})
			b.StopTimer()
			batches := len(n.batches("group"))
			b.ReportMetric(float64(b.N)/float64(batches), "commits/batch")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// BenchmarkHeartbeat is a heartbeat of a member of a stable group.
func BenchmarkHeartbeat(b *testing.B) {
	for _, groups := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			n := benched(b)
			members := make([]*kmsg.JoinGroupResponse, groups)
			for i := range members {
				id := fmt.Sprint("group-", i)
				members[i] = n.join(id, "", "topic")
				n.sync(id, members[i])
			}
			b.ReportAllocs()
			b.ResetTimer()
			spread(b, min(groups, 64), func(g int) {
				if code := n.heartbeat(fmt.Sprint("group-", g), members[g].MemberID, members[g].Generation); code != 0 {
					b.Error(code)
				}
			})
		})
	}
}

// BenchmarkFetchOffsets fetches what a group has committed for a topic of ten partitions.
func BenchmarkFetchOffsets(b *testing.B) {
	n := benched(b)
	var all []at
	topic := kmsg.OffsetFetchRequestGroupTopic{Topic: "topic"}
	for p := range int32(10) {
		all = append(all, at{"topic", p, 1})
		topic.Partitions = append(topic.Partitions, p)
	}
	n.commit("group", all...)
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group, req.Topics = "group", []kmsg.OffsetFetchRequestGroupTopic{topic}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if n.FetchOffsets(context.Background(), &req, true).ErrorCode != 0 {
			b.Fatal("failed")
		}
	}
}

// BenchmarkLoad reads a partition with a hundred thousand commits of a thousand groups.
func BenchmarkLoad(b *testing.B) {
	n := benched(b)
	n.parts = 1
	n.restart()
	const commits = 100_000
	for i := range commits {
		n.commit(fmt.Sprint("group-", i%1000), at{"topic", int32(i % 7), int64(i)})
	}
	b.ResetTimer()
	for range b.N {
		n.restart()
	}
	b.ReportMetric(float64(commits)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkLoadTransactions reads a partition with twenty thousand transactions, each of
// one producer and one group, among so many groups.
func BenchmarkLoadTransactions(b *testing.B) {
	for _, groups := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			n := benched(b)
			n.parts = 1
			n.restart()
			const transactions = 20_000
			for i := range groups {
				n.commit(fmt.Sprint("group-", i), at{"topic", 0, 0})
			}
			for i := range transactions {
				id := fmt.Sprint("group-", i%groups)
				n.transactional(id, int64(i), 0, at{"topic", 0, int64(i)})
				n.marker(id, int64(i), true)
			}
			b.ResetTimer()
			for range b.N {
				n.restart()
			}
			b.ReportMetric(float64(transactions)*float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
		})
	}
}
