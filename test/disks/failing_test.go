package disks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/test/harness"
)

// disk is what one log directory lies on.
type disk struct {
	dir  string
	fail func()
	// back repairs it. No broker runs then.
	back func()
}

// unmounted is a disk that goes as one that is lazily unmounted does: open files go on,
// and whoever opens another one finds an empty directory. It takes no privilege.
func unmounted(t *testing.T) disk {
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	away := filepath.Join(t.TempDir(), "away")
	return disk{
		dir: dir,
		fail: func() {
			if err := errors.Join(os.Rename(dir, away), os.Mkdir(dir, 0o755)); err != nil {
				t.Error(err)
			}
		},
		back: func() {
			if err := errors.Join(os.RemoveAll(dir), os.Rename(away, dir)); err != nil {
				t.Error(err)
			}
		},
	}
}

// replaced is a disk whose directory turns into a file.
func replaced(t *testing.T) disk {
	d := unmounted(t)
	fail, back := d.fail, d.back
	d.fail = func() {
		fail()
		if err := errors.Join(os.RemoveAll(d.dir), os.WriteFile(d.dir, []byte("no directory"), 0o600)); err != nil {
			t.Error(err)
		}
	}
	d.back = back
	return d
}

const partitions = 6

// TestOneDiskFails has one of two disks fail under load. Those who use the other one
// notice nothing; what was acknowledged is there when the disk is.
func TestOneDiskFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		make    func(*testing.T) disk
		failing int // the coordination's files are on disk 0
	}{{"io error", ioErrors, 1}, {"io error of the first", ioErrors, 0}, {"unmounted", unmounted, 1}, {"replaced", replaced, 0}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			oneFails(t, [2]disk{c.make(t), c.make(t)}, c.failing)
		})
	}
}

func oneFails(t *testing.T, disks [2]disk, failing int) {
	root := t.TempDir()
	settings := []string{
		"log.dirs=" + disks[0].dir + "," + disks[1].dir,
		"log.flush.visible.only=true",                       // what is acknowledged is on the disk
		"replica.high.watermark.checkpoint.interval.ms=500", // what finds an idle disk to have failed
		"log.flush.offset.checkpoint.interval.ms=700",
		"offsets.topic.num.partitions=8",
	}
	b := harness.StartIn(t, root, "127.0.0.1:0", settings...)
	c := client(t, b)
	size := "1048576"
	create(t, c, partitions, map[string]*string{"segment.bytes": &size})
	bad, good := disks[failing].dir, disks[1-failing].dir
	lost := map[int32]bool{}
	for p := range int32(partitions) {
		dir, _ := where(t, c, p)
		lost[p] = dir == bad
	}
	group := groupIn(t, b, good)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var acked [partitions][]string // each its producer's until wg is done
	var sent, refused, consumed [partitions]atomic.Int64
	defer wg.Wait()
	defer stop()
	var failed atomic.Bool
	for p := range int32(partitions) {
		c := client(t, b)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				k := fmt.Sprint(n)
				_, err := produce(ctx, c, p, k, 100+n%7*5000) // through the mapping, and with pwrite
				switch {
				case err == nil:
					acked[p] = append(acked[p], k)
					sent[p].Add(1)
				case ctx.Err() != nil:
					return
				case lost[p] && failed.Load() && lostError(err):
					refused[p].Add(1)
					time.Sleep(10 * time.Millisecond) // a refusal costs nothing: leave the others the processor
				default:
					t.Errorf("partition %d (lost: %v): a producer was told: %v", p, lost[p], err)
					return
				}
			}
		})
	}
	// One consumer has partitions of both disks, in one fetch.
	from := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		from[p] = kgo.NewOffset().AtStart()
	}
	in, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.KeepRetryableFetchErrors(), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Close)
	wg.Go(func() {
		for ctx.Err() == nil {
			f := in.PollFetches(ctx)
			for _, e := range f.Errors() {
				if ctx.Err() == nil && (!lost[e.Partition] || !failed.Load() || !lostError(e.Err)) {
					t.Errorf("partition %d (lost: %v): a consumer was told: %v", e.Partition, lost[e.Partition], e.Err)
				}
			}
			f.EachRecord(func(r *kgo.Record) { consumed[r.Partition].Add(1) })
		}
	})
	each := func(what string, of map[int32]bool, counter *[partitions]atomic.Int64, more int64) {
		t.Helper()
		for p := range int32(partitions) {
			if of[p] {
				from := counter[p].Load()
				harness.Eventually(t, fmt.Sprintf("%s of partition %d", what, p), func() bool { return counter[p].Load() >= from+more })
			}
		}
	}
	all, kept := map[int32]bool{}, map[int32]bool{}
	for p := range int32(partitions) {
		all[p], kept[p] = true, !lost[p]
	}
	each("producer", all, &sent, 20)
	each("consumer", all, &consumed, 20)
	if n := metric(t, b, "millrace_log_dir_offline", bad) + metric(t, b, "millrace_offline_replicas", ""); n != 0 {
		t.Errorf("something is offline before: %v", n)
	}

	failed.Store(true)
	disks[failing].fail()
	each("refused producer", lost, &refused, 3)
	harness.Eventually(t, "DescribeLogDirs", func() bool { return offline(t, c, bad) })
	if offline(t, c, good) {
		t.Errorf("%s is offline, too", good)
	}
	for p := range int32(partitions) {
		code, message := ask(t, c, p)
		if lost[p] && (code != kerr.KafkaStorageError.Code || message == "") {
			t.Errorf("lost partition %d answers code %d, %q", p, code, message)
		}
		if !lost[p] && code != 0 {
			t.Errorf("partition %d answers code %d, %q", p, code, message)
		}
	}
	harness.Eventually(t, "millrace_log_dir_offline", func() bool { return metric(t, b, "millrace_log_dir_offline", bad) == 1 })
	if n := metric(t, b, "millrace_log_dir_offline", good); n != 0 {
		t.Errorf("millrace_log_dir_offline of %s is %v", good, n)
	}
	harness.Eventually(t, "millrace_offline_replicas", func() bool {
		n := metric(t, b, "millrace_offline_replicas", "")
		return n >= float64(len(lost)/2) && n < partitions+8 // those of the offsets' partitions, too
	})
	if log := b.Log(); !strings.Contains(log, bad) || !strings.Contains(log, "check the disk of its directory, and restart the broker once it works") {
		t.Error("the log does not say what to do about which directory")
	}
	if failing == 1 { // the coordination goes on: nobody is sent to what is lost
		harness.Eventually(t, "the metadata", func() bool { return led(t, c, lost) })
	}
	// It stays so, for longer than the checkpoints take, and the others go on.
	more := int64(100) // a second or more
	if failing == 1 {
		more = 1 // a client looks for a leader a few times before it gives up
	}
	for range 2 {
		each("refused producer", lost, &refused, more)
		each("producer", kept, &sent, 20)
		each("consumer", kept, &consumed, 20)
		commit(t, b, group)
		if !offline(t, c, bad) {
			t.Error("the failed directory has come back by itself")
		}
	}
	if failing == 1 { // the coordination goes on: so do new topics, on the disk that is left
		if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 3, 1, nil, "later"); err != nil {
			t.Errorf("a new topic: %v", err)
		}
		for p := range int32(3) {
			r := &kgo.Record{Topic: "later", Partition: p, Value: []byte("later")}
			if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Errorf("partition %d of a new topic: %v", p, err)
			}
		}
	}
	if n := strings.Count(b.Log(), "cannot write the checkpoint"); n > 4 {
		t.Errorf("%d lines say that a checkpoint cannot be written", n)
	}
	stop()
	wg.Wait()
	b.Stop()

	disks[failing].back()
	b = harness.StartIn(t, root, b.Addr, settings...)
	c = client(t, b)
	for p := range int32(partitions) {
		has(t, b, p, acked[p])
		if _, err := produce(t.Context(), c, p, "after", 10); err != nil {
			t.Errorf("partition %d after the restart: %v", p, err)
		}
		has(t, b, p, append(acked[p], "after"))
	}
	if offline(t, c, bad) {
		t.Error("the directory is offline after the restart")
	}
	if !led(t, c, nil) {
		t.Error("not every partition has its leader after the restart")
	}
	commit(t, b, group)
	b.Stop()
}

// TestAllDisksFail has the broker end when it has no disk left, and serve all again
// when they are back.
func TestAllDisksFail(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name string
		make func(*testing.T) disk
	}{{"io error", ioErrors}, {"unmounted", unmounted}, {"replaced", replaced}} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			disks := [2]disk{kind.make(t), kind.make(t)}
			root := t.TempDir()
			settings := []string{
				"log.dirs=" + disks[0].dir + "," + disks[1].dir, "log.flush.visible.only=true",
				"replica.high.watermark.checkpoint.interval.ms=500", "log.flush.offset.checkpoint.interval.ms=700",
			}
			b := harness.StartIn(t, root, "127.0.0.1:0", settings...)
			c := client(t, b)
			create(t, c, 2, nil)
			var acked [2][]string
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for n := 0; ; n++ {
				if n == 40 {
					disks[0].fail()
					disks[1].fail()
				}
				p, k := int32(n%2), fmt.Sprint(n)
				_, err := produce(ctx, c, p, k, 1000)
				if err == nil {
					acked[p] = append(acked[p], k)
				} else if n < 40 {
					t.Fatal(err)
				} else if n > 60 {
					break
				}
			}
			if code := b.Wait(); code == 0 {
				t.Error("a broker without a disk has ended with exit code 0")
			}
			log := b.Log()
			for _, want := range []string{"every log directory has failed; check the disks and start the broker again", disks[0].dir, disks[1].dir} {
				if !strings.Contains(log, want) {
					t.Errorf("the log does not say %q", want)
				}
			}
			for _, d := range disks {
				d.back()
			}
			b = harness.StartIn(t, root, b.Addr, settings...)
			for p := range int32(2) {
				has(t, b, p, acked[p])
			}
			b.Stop()
		})
	}
}

// lostError is what clients are told of a partition whose disk has failed: by the
// partition, or by the metadata once the controller knows.
func lostError(err error) bool {
	return storageError(err) || errors.Is(err, kerr.LeaderNotAvailable)
}

// led reports whether the metadata has no leader for the partitions that are lost, whose
// replicas are offline, and one for the others.
func led(t *testing.T, c *kgo.Client, lost map[int32]bool) bool {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != partitions {
		t.Fatalf("metadata: %+v, %v", resp, err)
	}
	for _, p := range resp.Topics[0].Partitions {
		switch {
		case lost[p.Partition] && (p.Leader != -1 || p.ErrorCode != kerr.LeaderNotAvailable.Code || len(p.OfflineReplicas) != 1),
			!lost[p.Partition] && (p.Leader < 0 || p.ErrorCode != 0 || len(p.OfflineReplicas) != 0):
			return false
		}
	}
	return true
}

// ask produces one record by itself and answers what the broker says.
func ask(t *testing.T, c *kgo.Client, partition int32) (code int16, message string) {
	t.Helper()
	topics, err := kadm.NewClient(c).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := record.AppendBatch(nil, record.NewBatchInfo(0, time.Now().UnixMilli()), []record.Record{{Value: []byte("asked")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, topics[topic].ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := c.Broker(0).RetriableRequest(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	got := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if got.ErrorMessage != nil {
		message = *got.ErrorMessage
	}
	return got.ErrorCode, message
}

// offline reports what DescribeLogDirs says of a directory.
func offline(t *testing.T, c *kgo.Client, dir string) bool {
	t.Helper()
	all, err := kadm.NewClient(c).DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	found, is := false, false
	all.Each(func(d kadm.DescribedLogDir) {
		if d.Dir == dir {
			found, is = true, errors.Is(d.Err, kerr.KafkaStorageError)
		}
	})
	if !found {
		t.Errorf("DescribeLogDirs does not show %s", dir)
	}
	return is
}

// metric reads a metric, that of a directory where one is named.
func metric(t *testing.T, b *harness.Broker, name, dir string) float64 {
	t.Helper()
	prefix := name
	if dir != "" {
		prefix = fmt.Sprintf("%s{dir=%q}", name, dir)
	}
	for line := range strings.Lines(b.Metrics(t)) {
		rest, ok := strings.CutPrefix(line, prefix+" ")
		var v float64
		if _, err := fmt.Sscan(rest, &v); ok && err == nil {
			return v
		}
	}
	t.Fatalf("there is no metric %s", prefix)
	return 0
}

// groupIn finds a group whose offsets are kept in a directory.
func groupIn(t *testing.T, b *harness.Broker, dir string) string {
	t.Helper()
	commit(t, b, "the first one makes the topic")
	adm := kadm.NewClient(client(t, b))
	all, err := adm.DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var there []int32
	all.Each(func(d kadm.DescribedLogDir) {
		for p := range d.Topics["__consumer_offsets"] {
			if d.Dir == dir {
				there = append(there, p)
			}
		}
	})
	for i := range 1000 {
		name := fmt.Sprintf("group-%d", i)
		var h int32 // Java's hash of a string
		for _, c := range name {
			h = 31*h + c
		}
		if slices.Contains(there, (h&0x7fffffff)%8) {
			return name
		}
	}
	t.Fatalf("no group is kept in %s", dir)
	return ""
}

// commit commits an offset for a group and reads it back.
func commit(t *testing.T, b *harness.Broker, group string) {
	t.Helper()
	adm := kadm.NewClient(client(t, b))
	var at kadm.Offsets
	at.Add(kadm.Offset{Topic: topic, Partition: 0, At: 7, LeaderEpoch: -1})
	if err := adm.CommitAllOffsets(t.Context(), group, at); err != nil {
		t.Fatalf("commit for group %s: %v", group, err)
	}
	got, err := adm.FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatalf("committed offsets of group %s: %v", group, err)
	}
	if o, ok := got.Lookup(topic, 0); !ok || o.At != 7 {
		t.Errorf("committed offset of group %s: %+v", group, o)
	}
}
