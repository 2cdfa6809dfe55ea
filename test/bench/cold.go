package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// coldTarget is what 64 cold readers may do to the p99 of a warm produce, as a factor.
const coldTarget = 3

// coldFetch is how many bytes a cold reader asks for at a time.
const coldFetch = 256 << 10

// coldSide is one server of the comparison.
type coldSide struct {
	name string
	p    *process
	logs string // pattern of the files to forget

	alone, with, rate, factor []float64
}

// coldReaders measures how long a produce of 4 KiB takes, one at a time, alone and while
// 64 consumers read old segments that are not in the page cache. Each of these takes -pace
// bytes a second: without a bound they take all that the processors, which the client
// shares with the server, can move. What the bare server suffers of the same readers is
// what no broker is spared.
func coldReaders(ctx context.Context, o *options) (missed []string, err error) {
	dir := filepath.Join(o.dir, "cold")
	defer func() { _ = os.RemoveAll(dir) }() // scratch
	p, err := startMillrace(ctx, o.millrace, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := coldLog(ctx, o, p.addr); err != nil {
		return nil, err
	}
	b, err := startBare(ctx, dir, "-cold", strconv.FormatInt(o.volume, 10))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	sides := []*coldSide{
		{name: "bare", p: b, logs: filepath.Join(dir, bareFile)},
		{name: "millrace", p: p, logs: filepath.Join(dir, "data", "cold-*", "*.log")},
	}
	for round := -1; round < o.rounds; round++ { // the first one warms up
		for _, s := range sides {
			if err := s.round(ctx, o, round >= 0); err != nil {
				return nil, fmt.Errorf("%s beside cold readers: %w", s.name, err)
			}
		}
	}
	for _, s := range sides {
		fmt.Printf("# %s, p99 of a produce: %.0f µs alone, %.0f µs beside %d cold readers (%.0f MB/s): factor %.1f\n",
			s.name, median(s.alone), median(s.with), coldReaderCount, median(s.rate), median(s.factor))
	}
	if f := median(sides[1].factor); f > coldTarget {
		missed = append(missed, fmt.Sprintf("%d cold readers make the p99 of a produce %.1f times as long, wanted %d; the bare server's %.1f times",
			coldReaderCount, f, coldTarget, median(sides[0].factor)))
	}
	return missed, nil
}

// round measures a server once; counted says whether it is kept.
func (s *coldSide) round(ctx context.Context, o *options, counted bool) error {
	a, err := produceTimes(ctx, s.p.addr, o.produces)
	if err != nil {
		return err
	}
	if err := dropCache(s.logs); err != nil {
		return err
	}
	readers, err := startReaders(ctx, s.p.addr, o.pace)
	if err != nil {
		return err
	}
	from := time.Now()
	w, err := produceTimes(ctx, s.p.addr, o.produces)
	took := time.Since(from)
	sum, readErr := readers.stop()
	if err := errors.Join(err, readErr); err != nil || !counted {
		return err
	}
	rate := float64(sum) / 1e6 / took.Seconds()
	s.alone, s.with, s.rate = append(s.alone, p99(a)), append(s.with, p99(w)), append(s.rate, rate)
	s.factor = append(s.factor, p99(w)/p99(a))
	fmt.Printf("BenchmarkBroker/cold-readers/%s-%d\t%d\t%.0f p99-alone-µs\t%.0f p99-with-µs\t%.0f read-MB/s\n",
		s.name, runtime.NumCPU(), o.produces, p99(a), p99(w), rate)
	return nil
}

// coldLog writes the log to read, in segments of 64 MiB, and makes the topic that is
// written to.
func coldLog(ctx context.Context, o *options, addr string) error {
	adm, err := admin(addr)
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := create(ctx, adm, "warm"); err != nil {
		return err
	}
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

// dropCache has the kernel forget the files of a pattern.
func dropCache(pattern string) error {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		return fmt.Errorf("no files %s: %w", pattern, errors.Join(err, os.ErrNotExist))
	}
	for _, name := range names {
		if err := forget(name); err != nil {
			return err
		}
	}
	return nil
}
