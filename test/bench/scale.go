package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
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
