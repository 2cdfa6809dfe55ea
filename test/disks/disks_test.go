// Package disks_test drives the real binary over several log directories, and over a
// disk that is full.
package disks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

const topic = "orders"

// twoDirs are two log directories of a broker that runs in root.
func twoDirs(root string) (a, b, setting string) {
	a, b = filepath.Join(root, "a"), filepath.Join(root, "b")
	return a, b, "log.dirs=" + a + "," + b
}

func client(t *testing.T, b *harness.Broker) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(
		kgo.SeedBrokers(b.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(100),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func create(t *testing.T, c *kgo.Client, partitions int32, configs map[string]*string) {
	t.Helper()
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), partitions, 1, configs, topic); err != nil {
		t.Fatal(err)
	}
}

// produce appends one record and answers its offset.
func produce(ctx context.Context, c *kgo.Client, partition int32, value string, size int) (int64, error) {
	r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(value), Value: make([]byte, size)}
	err := c.ProduceSync(ctx, r).FirstErr()
	return r.Offset, err
}

// has checks that a partition has all that was acknowledged, in order. Records that
// were not may be in between.
func has(t *testing.T, b *harness.Broker, partition int32, acked []string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for i := 0; i < len(acked); {
		f := c.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("partition %d: %q is lost: %d of %d acknowledged records are there, then: %v", partition, acked[i], i, len(acked), err)
		}
		f.EachRecord(func(r *kgo.Record) {
			if i < len(acked) && string(r.Key) == acked[i] {
				i++
			}
		})
	}
}

// where finds the directory of a partition and whether it is on its way to another
// one.
func where(t *testing.T, c *kgo.Client, partition int32) (dir string, moving bool) {
	t.Helper()
	all, err := kadm.NewClient(c).DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	all.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			switch {
			case p.Topic != topic || p.Partition != partition:
			case p.IsFuture:
				moving = true
			default:
				dir = d.Dir
			}
		})
	})
	return dir, moving
}

// TestMove moves a partition that is produced to, and restarts the broker.
func TestMove(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dirA, dirB, dirs := twoDirs(root)
	b := harness.StartIn(t, root, "127.0.0.1:0", dirs)
	c := client(t, b)
	create(t, c, 1, nil)
	var acked []string
	more := func(n int) {
		for range n {
			k := fmt.Sprint(len(acked))
			if _, err := produce(t.Context(), c, 0, k, 100_000); err != nil {
				t.Fatal(err)
			}
			acked = append(acked, k)
		}
	}
	more(50)
	from, _ := where(t, c, 0)
	to := dirB
	if from == dirB {
		to = dirA
	}
	var req kadm.AlterReplicaLogDirsReq
	req.Add(to, kadm.TopicsSet{topic: {0: {}}})
	resp, err := kadm.NewClient(c).AlterAllReplicaLogDirs(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Each(func(r kadm.AlterReplicaLogDirsResponse) {
		if r.Err != nil {
			t.Errorf("%+v", r)
		}
	})
	deadline := time.Now().Add(5 * time.Minute)
	for {
		more(1)
		if dir, moving := where(t, c, 0); dir == to && !moving {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the partition has not moved")
		}
	}
	more(5)
	has(t, b, 0, acked)
	b.Kill()
	b = harness.StartIn(t, root, b.Addr, dirs)
	has(t, b, 0, acked)
	if dir, _ := where(t, client(t, b), 0); dir != to {
		t.Errorf("after a restart the partition is in %s, not in %s", dir, to)
	}
	b.Stop()
}

// TestLostDirectory starts without one of two directories: what lies in the other one
// is served, and what lay in this one does not begin anew.
func TestLostDirectory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	// The coordination's files lie in the first one.
	_, dirB, dirs := twoDirs(root)
	b := harness.StartIn(t, root, "127.0.0.1:0", dirs)
	c := client(t, b)
	create(t, c, 4, nil)
	for p := range int32(4) {
		if _, err := produce(t.Context(), c, p, "before", 10); err != nil {
			t.Fatal(err)
		}
	}
	lost := map[int32]bool{}
	for p := range int32(4) {
		dir, _ := where(t, c, p)
		lost[p] = dir == dirB
	}
	b.Stop()
	away := filepath.Join(t.TempDir(), "b")
	if err := errors.Join(os.Rename(dirB, away), os.WriteFile(dirB, []byte("no directory"), 0o600)); err != nil {
		t.Fatal(err)
	}
	b = harness.StartIn(t, root, b.Addr, dirs)
	c = client(t, b)
	for p := range int32(4) {
		limit := time.Minute
		if lost[p] { // a client may try until then
			limit = 5 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		offset, err := produce(ctx, c, p, "meanwhile", 10)
		cancel()
		if lost[p] && err == nil {
			t.Errorf("partition %d, whose directory is lost, has taken a record at %d", p, offset)
		}
		if !lost[p] && (err != nil || offset != 1) {
			t.Errorf("partition %d: offset %d, %v", p, offset, err)
		}
	}
	b.Stop()
	if err := errors.Join(os.Remove(dirB), os.Rename(away, dirB)); err != nil {
		t.Fatal(err)
	}
	b = harness.StartIn(t, root, b.Addr, dirs)
	for p := range int32(4) {
		want := []string{"before"}
		if !lost[p] {
			want = append(want, "meanwhile")
		}
		has(t, b, p, want)
	}
	b.Stop()
}

// storageError reports the error that a producer is to see.
func storageError(err error) bool { return errors.Is(err, kerr.KafkaStorageError) }
