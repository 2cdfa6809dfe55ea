package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
)

// scaleParts are what -scale measures; nothing without it.
func scaleParts(o *options) (parts []func(context.Context, *options) ([]string, error)) {
	if !o.scale {
		return nil
	}
	if o.only == "" || strings.Contains("many partitions", o.only) {
		parts = append(parts, manyPartitions)
	}
	if o.only == "" || strings.Contains("cold readers", o.only) {
		parts = append(parts, coldReaders)
	}
	return parts
}

// Targets for a broker with many partitions: its start after a clean stop, and the memory
// that it has then.
const (
	manyStartTarget = 5 * time.Second
	manyTarget      = 200 << 20
)

// manyPartitions starts the broker over so many partitions, each with a record, after a
// clean stop. The bare side opens as many files as it does.
func manyPartitions(ctx context.Context, o *options) (missed []string, err error) {
	const each = 100
	topics := o.partitions / each
	dir := filepath.Join(o.dir, "many")
	defer func() { _ = os.RemoveAll(dir) }() // scratch
	p, err := startMillrace(ctx, o.millrace, dir)
	if err != nil {
		return nil, err
	}
	if err := createMany(ctx, p.addr, topics, each); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	var ready, rss, bare, cpu []float64
	for range o.rounds {
		b, err := openAll(filepath.Join(dir, "data"))
		if err != nil {
			return nil, err
		}
		p, err := startMillrace(ctx, o.millrace, dir)
		if err != nil {
			return nil, err
		}
		n, err := p.resident()
		used, cpuErr := p.cpu()
		if err := errors.Join(err, cpuErr, p.stop()); err != nil {
			return nil, err
		}
		ready, rss = append(ready, p.ready.Seconds()), append(rss, float64(n)/(1<<20))
		bare, cpu = append(bare, b.Seconds()), append(cpu, used.Seconds())
		fmt.Printf("BenchmarkBroker/start-%d-partitions-%d\t1\t%d ns/op\t%.1f rss-MiB\t%.2f cpu-s\t%.2f bare-s\n",
			o.partitions, runtime.NumCPU(), p.ready.Nanoseconds(), float64(n)/(1<<20), used.Seconds(), b.Seconds())
	}
	s, m := median(ready), median(rss)
	fmt.Printf("# %d partitions: ready after %.2f s, of which %.2f s of CPU, %.0f MiB resident then; to open their files alone takes %.2f s\n",
		o.partitions, s, median(cpu), m, median(bare))
	if s > manyStartTarget.Seconds() {
		missed = append(missed, fmt.Sprintf("%d partitions: ready after %.2f s, wanted %s", o.partitions, s, manyStartTarget))
	}
	if m*(1<<20) > manyTarget {
		missed = append(missed, fmt.Sprintf("%d partitions: %.0f MiB resident, wanted %d", o.partitions, m, manyTarget>>20))
	}
	return missed, nil
}

// createMany makes the topics and writes a batch to each partition.
func createMany(ctx context.Context, addr string, topics, each int) error {
	adm, err := admin(addr)
	if err != nil {
		return err
	}
	defer adm.Close()
	b, err := batch(1 << 10)
	if err != nil {
		return err
	}
	for t := range topics {
		name := fmt.Sprintf("many-%d", t)
		resp, err := adm.CreateTopic(ctx, int32(each), 1, nil, name)
		if err := errors.Join(err, resp.Err); err != nil {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
		var parts []kmsg.ProduceRequestTopicPartition
		for i := range each {
			parts = append(parts, kmsg.ProduceRequestTopicPartition{Partition: int32(i), Records: b})
		}
		l := produceTo(name, parts, 1)
		if _, err := l.run(ctx, addr, int64(l.payload)); err != nil {
			return fmt.Errorf("write to %s: %w", name, err)
		}
	}
	return nil
}

// openAll opens, sizes and closes every file of the partitions: what no start can do
// without.
func openAll(dir string) (time.Duration, error) {
	from := time.Now()
	names, err := filepath.Glob(filepath.Join(dir, "*-*", "*"))
	if err != nil {
		return 0, err
	}
	var head [64]byte
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		_, statErr := f.Stat()
		_, _ = f.ReadAt(head[:], 0) // many are empty
		if err := errors.Join(statErr, f.Close()); err != nil {
			return 0, err
		}
	}
	return time.Since(from), nil
}

// coldTarget is what 64 cold readers may do to the p99 of a warm produce, as a factor.
const coldTarget = 3

// coldReaders measures how long a produce of 4 KiB takes, one at a time, alone and while
// 64 consumers read old segments that are not in the page cache, in turn. Each of these
// takes -pace bytes a second: without a bound they would take all that the processors,
// which the client shares with the broker, can move.
func coldReaders(ctx context.Context, o *options) (missed []string, err error) {
	dir := filepath.Join(o.dir, "cold")
	defer func() { _ = os.RemoveAll(dir) }() // scratch
	p, err := startMillrace(ctx, o.millrace, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	adm, err := admin(p.addr)
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	if err := coldLog(ctx, o, p.addr, adm); err != nil {
		return nil, err
	}
	if err := create(ctx, adm, "warm"); err != nil {
		return nil, err
	}
	var alone, with, rate []float64
	for round := -1; round < o.rounds; round++ { // the first one warms up
		a, err := produceTimes(ctx, p.addr, o.produces)
		if err != nil {
			return nil, err
		}
		if err := dropCache(filepath.Join(dir, "data")); err != nil {
			return nil, err
		}
		readers, err := startReaders(ctx, p.addr, o.pace)
		if err != nil {
			return nil, err
		}
		from := time.Now()
		w, err := produceTimes(ctx, p.addr, o.produces)
		took := time.Since(from)
		sum, readErr := readers.stop()
		if err := errors.Join(err, readErr); err != nil {
			return nil, err
		}
		if round < 0 {
			continue
		}
		alone, with, rate = append(alone, p99(a)), append(with, p99(w)), append(rate, float64(sum)/1e6/took.Seconds())
		fmt.Printf("BenchmarkBroker/cold-readers-%d\t%d\t%.0f p99-alone-µs\t%.0f p99-with-µs\t%.0f read-MB/s\n",
			runtime.NumCPU(), o.produces, p99(a), p99(w), rate[len(rate)-1])
	}
	ratio := make([]float64, len(alone))
	for i := range alone {
		ratio[i] = with[i] / alone[i]
	}
	f := median(ratio)
	fmt.Printf("# p99 of a produce: %.0f µs alone, %.0f µs beside %d cold readers (%.0f MB/s): factor %.1f\n", median(alone), median(with), coldReaderCount, median(rate), f)
	if f > coldTarget {
		missed = append(missed, fmt.Sprintf("%d cold readers make the p99 of a produce %.1f times as long, wanted %d", coldReaderCount, f, coldTarget))
	}
	return missed, nil
}

// coldLog writes the log to read, in segments of 64 MiB.
func coldLog(ctx context.Context, o *options, addr string, adm *kadm.Client) error {
	segment, limit := "67108864", "10485760"
	resp, err := adm.CreateTopic(ctx, topicPartitions, 1, map[string]*string{"segment.bytes": &segment, "max.message.bytes": &limit}, "cold")
	if err := errors.Join(err, resp.Err); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	l, err := produceLoad("cold", 64<<10, topicPartitions)
	if err != nil {
		return err
	}
	_, err = l.run(ctx, addr, o.volume)
	return err
}

// produceTimes sends n produce requests, each after the answer to the one before, and
// tells how long each took, in µs.
func produceTimes(ctx context.Context, addr string, n int) ([]float64, error) {
	l, err := produceLoad("warm", 4<<10, 1)
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // measured before
	frame := l.frame(0)
	times := make([]float64, n)
	for i := range times {
		from := time.Now()
		slots := make(chan struct{}, 1)
		if err := l.send(ctx, c, frame, 1, slots); err != nil {
			return nil, err
		}
		if err := l.receive(c, 1, slots); err != nil {
			return nil, err
		}
		times[i] = float64(time.Since(from).Nanoseconds()) / 1e3
		// A client that is not the bottleneck; otherwise readers and producer fight for the
		// processors in bursts.
		time.Sleep(time.Millisecond)
	}
	return times, nil
}

func p99(times []float64) float64 {
	s := slices.Sorted(slices.Values(times))
	return s[len(s)*99/100]
}

// readCold is a consumer, 256 KiB at a time and pace bytes a second, until the context
// ends. It answers the bytes it got.
func readCold(ctx context.Context, addr string, reader int, pace int64) (total int64, err error) {
	const size = 256 << 10
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		return 0, err
	}
	defer func() { _ = c.Close() }() // only read from
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	offset := int64(reader/topicPartitions) * 100
	buf := make([]byte, size+1<<20)
	from := time.Now()
	for ctx.Err() == nil {
		n, next, err := fetchOnce(c, buf, int32(reader%topicPartitions), offset, size)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return total, err
		}
		total += int64(n)
		if offset = next; n == 0 {
			offset = 0
		}
		if pace > 0 {
			due := from.Add(time.Duration(float64(total) / float64(pace) * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
			}
		}
	}
	return total, nil
}

// fetchOnce asks for size bytes from an offset on, and answers how many came and the
// offset after them.
func fetchOnce(c net.Conn, buf []byte, partition int32, offset int64, size int) (n int, next int64, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(fetchVersion)
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 500, 1, 100<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, offset, int32(size), -1
	req.Topics = []kmsg.FetchRequestTopic{{Topic: "cold", Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	if _, err := c.Write(request(req)); err != nil {
		return 0, 0, err
	}
	if _, err := io.ReadFull(c, buf[:8]); err != nil {
		return 0, 0, err
	}
	length := int(binary.BigEndian.Uint32(buf)) - 4
	if length < 0 || length > len(buf) {
		return 0, 0, fmt.Errorf("a response of %d bytes: %w", length, errResponse)
	}
	if _, err := io.ReadFull(c, buf[:length]); err != nil {
		return 0, 0, err
	}
	var resp kmsg.FetchResponse
	resp.SetVersion(fetchVersion)
	if err := resp.ReadFrom(buf[:length]); err != nil {
		return 0, 0, err
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return 0, 0, fmt.Errorf("error code %d: %w", got.ErrorCode, errResponse)
	}
	next = offset
	for b := range record.Batches(got.RecordBatches).All() {
		next = b.NextOffset()
	}
	return len(got.RecordBatches), next, nil
}

// dropCache has the kernel forget the closed segments of the topic.
func dropCache(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "cold-*", "*.log"))
	if err != nil || len(names) == 0 {
		return fmt.Errorf("no segments in %s: %w", dir, errors.Join(err, os.ErrNotExist))
	}
	for _, name := range names {
		if err := forget(name); err != nil {
			return err
		}
	}
	return nil
}
