package group_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/mmap"
)

// raw appends a batch to a group's log as it is.
func (n *node) raw(id string, b record.Batches) {
	n.t.Helper()
	if _, err := n.part(id).Append(context.Background(), replica.AppendRequest{Batches: b, Acks: replica.AcksAll, Internal: true}); err != nil {
		n.t.Fatal(err)
	}
}

// batch makes a batch of records; change may alter its header.
func batch(t testing.TB, change func(*record.BatchInfo), records ...record.Record) record.Batches {
	t.Helper()
	info := record.NewBatchInfo(0, time.Now().UnixMilli())
	if change != nil {
		change(&info)
	}
	for i := range records {
		records[i].OffsetDelta = int32(i)
	}
	b, err := record.AppendBatch(nil, info, records, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// committedIn is the record of a commit.
func committedIn(t testing.TB, id string, a at) record.Record {
	t.Helper()
	v := schema.NewOffsetCommitValue()
	v.Offset, v.CommitTimestamp = a.offset, time.Now().UnixMilli()
	key, value, err := schema.Encode(&schema.OffsetCommit{Group: id, Topic: a.topic, Partition: a.partition, Value: v})
	if err != nil {
		t.Fatal(err)
	}
	return record.Record{Key: key, Value: value}
}

// transactional are commits in a transaction of a producer.
func (n *node) transactional(id string, producer int64, seq int32, what ...at) {
	n.t.Helper()
	var records []record.Record
	for _, a := range what {
		records = append(records, committedIn(n.t, id, a))
	}
	n.raw(id, batch(n.t, func(i *record.BatchInfo) {
		i.Transactional, i.ProducerID, i.ProducerEpoch, i.BaseSequence = true, producer, 0, seq
	}, records...))
}

// marker ends a producer's transaction.
func (n *node) marker(id string, producer int64, commit bool) {
	n.t.Helper()
	info := record.NewBatchInfo(0, time.Now().UnixMilli())
	info.ProducerID, info.ProducerEpoch = producer, 0
	n.raw(id, record.AppendEndTxn(nil, info, record.EndTxn{Commit: commit}))
}

// codesOf are the codes of a stable fetch of topic a, by partition.
func (n *node) codesOf(id string, partitions ...int32) (codes []int16) {
	n.t.Helper()
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group = id
	req.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "a", Partitions: partitions}}
	for _, p := range n.FetchOffsets(context.Background(), &req, true).Topics[0].Partitions {
		codes = append(codes, p.ErrorCode)
	}
	return codes
}

// TestLoadTransactions: offsets of transactions count when they were committed, and
// against what was committed outside of them it is the later record that counts.
func TestLoadTransactions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 5})
		n.commit("g", at{"a", 0, 1}, at{"a", 1, 1}, at{"a", 2, 1}, at{"a", 3, 1})
		n.transactional("g", 7, 0, at{"a", 0, 20}, at{"a", 1, 20})
		n.transactional("g", 8, 0, at{"a", 2, 30}, at{"a", 4, 30})
		n.transactional("g", 9, 0, at{"a", 3, 40})
		n.commit("g", at{"a", 1, 5})
		n.marker("g", 7, true)
		n.marker("g", 8, false)
		n.restart()
		n.topics(map[string]int{"a": 5})
		n.expect("g", at{"a", 0, 20}, at{"a", 1, 5}, at{"a", 2, 1}, at{"a", 3, 1})
		codesAre(t, "stable fetch", n.codesOf("g", 0, 2, 3, 4), nil, nil, kerr.UnstableOffsetCommit, nil)
		// What is pending neither expires nor lets the group go.
		time.Sleep(n.settings.Retention + n.settings.RetentionCheck)
		synctest.Wait()
		n.expect("g", at{"a", 3, 1})
		n.restart()
		n.topics(map[string]int{"a": 5})
		codesAre(t, "stable fetch", n.codesOf("g", 3), kerr.UnstableOffsetCommit)
		n.marker("g", 9, true)
		n.restart()
		n.topics(map[string]int{"a": 5})
		n.expect("g", at{"a", 3, 40})
		codesAre(t, "stable fetch", n.codesOf("g", 3), nil)
	})
}

// TestDeletionOfPendingOffsets: what is deleted takes with it what open transactions have
// for the same partitions, and their markers do not bring it back.
func TestDeletionOfPendingOffsets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.parts = 1 })
		defer n.stop()
		start := func() {
			n.restart()
			n.topics(map[string]int{"a": 5, "b": 1})
		}
		n.commit("g", at{"a", 0, 1}, at{"a", 2, 1}, at{"b", 0, 1})
		n.transactional("g", 7, 0, at{"a", 0, 20}, at{"a", 1, 20}, at{"a", 2, 20}, at{"b", 0, 20}, at{"b", 1, 20})
		n.transactional("g", 8, 0, at{"a", 1, 30})
		n.transactional("deleted", 7, 5, at{"a", 0, 20})
		start()
		codesAre(t, "stable fetch", n.codesOf("g", 0, 1, 2), kerr.UnstableOffsetCommit, kerr.UnstableOffsetCommit, kerr.UnstableOffsetCommit)
		_, codes := n.deleteOffsets("g", at{"a", 0, 0}, at{"a", 1, 0}, at{"a", 1, 0})
		codesAre(t, "delete offsets", codes, nil, nil, nil)
		n.TopicsDeleted([]string{"b"})
		if code := n.DeleteGroup(t.Context(), "deleted"); code != 0 {
			t.Errorf("delete: %v", kerr.ErrorForCode(code))
		}
		for range 2 {
			codesAre(t, "stable fetch", n.codesOf("g", 0, 1, 2), nil, nil, kerr.UnstableOffsetCommit)
			n.expect("g", at{"a", 2, 1})
			if got := n.listed(nil, nil); len(got) != 1 {
				t.Errorf("listed: %q", got)
			}
			start()
		}
		n.marker("g", 7, true)
		n.marker("g", 8, true)
		start()
		n.expect("g", at{"a", 2, 20})
		n.expect("deleted")
	})
}

// TestLoadOddities: records that cannot be read are left out, and the others are not.
func TestLoadOddities(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.commit("g", at{"a", 0, 1})
		good := committedIn(t, "g", at{"a", 1, 2})
		cut := committedIn(t, "g", at{"a", 2, 2})
		cut.Value = cut.Value[:len(cut.Value)-1]
		newer := committedIn(t, "g", at{"a", 3, 2})
		newer.Value[1] = 99
		n.raw("g", batch(t, nil,
			record.Record{Key: []byte{0, 77, 1, 2}, Value: []byte{1}}, // a type of the future
			record.Record{Key: []byte{0}, Value: []byte{1}},
			record.Record{Key: []byte{}, Value: nil},
			cut, newer, good,
		))
		n.raw("g", batch(t, nil, record.Record{Key: good.Key, Value: committedIn(t, "g", at{"a", 1, 3}).Value}))
		n.commit("g", at{"a", 0, 4})
		n.restart()
		n.expect("g", at{"a", 0, 4}, at{"a", 1, 3})
		n.commit("g", at{"a", 2, 5})
		n.expect("g", at{"a", 0, 4}, at{"a", 1, 3}, at{"a", 2, 5})
	})
}

// TestCodecs writes with each codec of offsets.topic.compression.codec and reads it back.
func TestCodecs(t *testing.T) {
	t.Parallel()
	for codec := range record.CodecCount {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := open(t, func(n *node) {
					n.settings.TopicCodec, n.compressors, n.parts = int8(codec), compressors(t), 1
				})
				defer n.stop()
				var want []at
				for p := range int32(100) {
					want = append(want, at{"a", p, int64(p)})
				}
				n.commit("g", want...)
				if got := n.batches("g")[0].Codec(); got != codec {
					t.Errorf("codec %v", got)
				}
				n.restart()
				n.expect("g", want...)
			})
		})
	}
}

func compressors(t testing.TB) *core.Compressors {
	t.Helper()
	c, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// TestAHugeBatchLeavesNothing: what a load has made room for is not kept for the next.
func TestAHugeBatchLeavesNothing(t *testing.T) { // counts what is allocated, so it runs alone
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.parts, n.compressors, n.settings.LoadBufferBytes = 1, compressors(t), 64<<10 })
		defer n.stop()
		tr := compressors(t).Transcoder(0)
		info := record.NewBatchInfo(0, time.Now().UnixMilli())
		info.Codec = record.Gzip
		b, err := record.AppendBatch(nil, info, []record.Record{{Key: []byte("?"), Value: make([]byte, 32<<20)}},
			func(dst, src []byte) ([]byte, error) { return tr.Compress(info.Codec, record.Magic2, dst, src) })
		if err != nil {
			t.Fatal(err)
		}
		n.commit("g", at{"a", 0, 1})
		n.restart()
		before := leaktest.Heap()
		n.raw("g", b)
		n.restart()
		if more := leaktest.Heap() - before; more > 8<<20 {
			t.Errorf("%d bytes are held", more)
		}
		n.expect("g", at{"a", 0, 1})
	})
}

// TestLoadInSmallPieces reads a log with a buffer that is smaller than a batch.
func TestLoadInSmallPieces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.settings.LoadBufferBytes, n.parts = 1, 1 })
		defer n.stop()
		for i := range 300 {
			n.commit(fmt.Sprint("g", i%50), at{"a", int32(i), int64(i)}, at{"b", 0, int64(i)})
		}
		before := map[string][]at{}
		for i := range 50 {
			before[fmt.Sprint("g", i)] = n.fetched(fmt.Sprint("g", i))
		}
		n.restart()
		for id, want := range before {
			n.expect(id, want...)
		}
	})
}

// FuzzLoad: whatever the records of a partition are, it is loaded, and then serves.
func FuzzLoad(f *testing.F) {
	for _, r := range []schema.Record{
		&schema.OffsetCommit{Group: "g", Topic: "a", Value: schema.NewOffsetCommitValue()},
		&schema.OffsetCommit{Group: "g", Topic: "a"},
		&schema.GroupMetadata{Group: "g"},
		&schema.GroupMetadata{Group: "g", Value: &schema.GroupMetadataValue{
			ProtocolType: "consumer", Protocol: kmsg.StringPtr("range"), Leader: kmsg.StringPtr("m"), Generation: 3,
			Members: []schema.GroupMember{{MemberID: "m", SessionTimeout: 10_000, Subscription: subscription("a"), Assignment: []byte("x")}},
		}},
		&schema.GroupMetadata{Group: "g", Value: &schema.GroupMetadataValue{Generation: -1, Members: []schema.GroupMember{{}, {}}}},
		&schema.ConsumerGroupMetadata{Group: "g", Value: &schema.ConsumerGroupMetadataValue{Epoch: 4}},
		&schema.ConsumerGroupMemberMetadata{Group: "g", MemberID: "m", Value: &schema.ConsumerGroupMemberMetadataValue{SubscribedTopicNames: []string{"a"}}},
		&schema.ConsumerGroupCurrentMemberAssignment{Group: "g", MemberID: "m", Value: &schema.ConsumerGroupCurrentMemberAssignmentValue{MemberEpoch: 4}},
		&schema.ConsumerGroupTargetAssignmentMember{Group: "g", MemberID: "m", Value: &schema.ConsumerGroupTargetAssignmentMemberValue{}},
		&schema.ConsumerGroupTargetAssignmentMember{Group: "g", MemberID: "m", Value: &schema.ConsumerGroupTargetAssignmentMemberValue{
			TopicPartitions: []schema.TopicPartitions{{TopicID: idOf("a"), Partitions: []int32{-1, 0, 7}}},
		}},
		&schema.GroupMetadata{Group: "g", Value: &schema.GroupMetadataValue{
			ProtocolType: "consumer", Protocol: kmsg.StringPtr("range"), Generation: 3,
			Members: []schema.GroupMember{{MemberID: "m", SessionTimeout: 10_000, Subscription: subscription("a"), Assignment: assignment("a", -1, 0, 7)}},
		}},
		&schema.ConsumerGroupRegularExpression{Group: "g", RegularExpression: `\Qa`, Value: &schema.ConsumerGroupRegularExpressionValue{Topics: []string{"a"}}},
	} {
		key, value, err := schema.Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key, value, key, value, byte(0))
		f.Add(key, value, key, []byte(nil), byte(1))
	}
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 []byte, flags byte) {
		synctest.Test(t, func(t *testing.T) {
			n := open(t, func(n *node) {
				n.parts, n.settings.Retention, n.settings.RetentionCheck = 1, 48*time.Hour, 24*time.Hour
			})
			defer n.stop()
			n.commit("before", at{"a", 0, 1})
			second := record.Record{Key: key2, Value: value2}
			if flags&1 != 0 {
				second.Value = nil
			}
			if key1 == nil {
				key1 = []byte{}
			}
			if key2 == nil {
				second.Key = []byte{}
			}
			n.raw("x", batch(t, func(i *record.BatchInfo) {
				if flags&2 != 0 {
					i.Transactional, i.ProducerID, i.ProducerEpoch, i.BaseSequence = true, 5, 0, 0
				}
			}, record.Record{Key: key1, Value: value1}, second))
			if flags&4 != 0 && flags&2 != 0 {
				n.marker("x", 5, flags&8 != 0)
			}
			n.commit("after", at{"a", 0, 2})
			n.restart()
			n.topics(map[string]int{"a": 2})
			if got := n.Stats(); got.Loading != 0 {
				t.Fatal("not loaded")
			}
			// The records may be of these groups; what was written after them counts.
			if got := n.fetched("after"); len(got) == 0 {
				t.Fatalf("after: %v", got)
			}
			list := kmsg.NewPtrListGroupsResponse()
			if err := n.ListGroups(t.Context(), kmsg.NewPtrListGroupsRequest(), list); err != nil || list.ErrorCode != 0 {
				t.Fatalf("list: %d, %v", list.ErrorCode, err)
			}
			for _, g := range list.Groups {
				n.DescribeGroup(t.Context(), g.Group)
				n.ConsumerGroupDescribe(t.Context(), g.Group)
				n.fetched(g.Group)
				// Whatever a group was, those of the consumer protocol can join it, or are refused.
				for _, member := range []string{"m", "other"} {
					n.beat(beatRequest(g.Group, member, 0, "a"))
				}
				leave := beatRequest(g.Group, "other", -1)
				n.beat(leave)
			}
			// Sessions end, offsets expire.
			time.Sleep(n.settings.Retention + time.Hour)
			synctest.Wait()
			m := n.join("new", "", "a")
			n.sync("new", m)
		})
	})
}

// TestLoadOldFormats reads a partition that a Kafka before 0.11 has written.
func TestLoadOldFormats(t *testing.T) {
	t.Parallel()
	for _, magic := range []int8{record.Magic0, record.Magic1} {
		for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy} {
			t.Run(fmt.Sprintf("magic %d %v", magic, codec), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "logs")
				folder := filepath.Join(dir, group.TopicName+"-0")
				if err := os.MkdirAll(folder, 0o755); err != nil {
					t.Fatal(err)
				}
				tr := compressors(t).Transcoder(0)
				var log []byte
				for i := range 3 {
					info := record.NewBatchInfo(int64(2*i), time.Now().UnixMilli())
					info.Codec = codec
					compress := func(dst, src []byte) ([]byte, error) { return tr.Compress(codec, record.Magic2, dst, src) }
					if codec == record.None {
						compress = nil
					}
					second := committedIn(t, "g", at{"b", int32(i), int64(i)})
					second.OffsetDelta = 1
					b, err := record.AppendBatch(nil, info, []record.Record{committedIn(t, "g", at{"a", 0, int64(i)}), second}, compress)
					if err != nil {
						t.Fatal(err)
					}
					if log, err = record.NewDownConverter(magic, tr).Append(log, b); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(folder, "00000000000000000000.log"), log, 0o600); err != nil {
					t.Fatal(err)
				}
				f, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{dir}, Clock: core.SystemClock{}})
				if err != nil {
					t.Fatal(err)
				}
				n := open(t, func(n *node) { n.outside, n.storage, n.compressors, n.parts = true, f, compressors(t), 1 })
				n.expect("g", at{"a", 0, 2}, at{"b", 0, 0}, at{"b", 1, 1}, at{"b", 2, 2})
				n.commit("g", at{"a", 0, 9})
				n.restart()
				n.expect("g", at{"a", 0, 9}, at{"b", 0, 0}, at{"b", 1, 1}, at{"b", 2, 2})
				n.stop()
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
