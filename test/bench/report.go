package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

func pick(rs []result, f func(result) float64) []float64 {
	out := make([]float64, len(rs))
	for i, r := range rs {
		out[i] = f(r)
	}
	return out
}

// ratios are taken round by round, so that drift of the machine falls out.
func ratios(ours, bare []result, f func(result) float64) []float64 {
	out := make([]float64, len(ours))
	for i := range ours {
		out[i] = f(ours[i]) / f(bare[i])
	}
	return out
}

// summarise prints medians and ratios and returns the targets that were missed.
func summarise(s *scenario, bare, ours []result) (missed []string) {
	speed := func(r result) float64 { return r.mbPerSec }
	unit := "MB/s"
	if s.kind == "small" {
		speed, unit = func(r result) float64 { return r.opsPerS / 1000 }, "k requests/s"
	}
	cpu := func(r result) float64 { return r.cpuPerGB }
	throughput := median(ratios(ours, bare, speed))
	work := median(ratios(ours, bare, cpu))
	fmt.Printf("# %-18s millrace %7.0f %s, bare %7.0f: ratio %.2f", s.name,
		median(pick(ours, speed)), unit, median(pick(bare, speed)), throughput)
	if s.kind == "small" {
		fmt.Printf("; CPU ratio %.2f\n", work)
		return nil
	}
	fmt.Printf("; CPU s/GB %.3f, bare %.3f: ratio %.2f\n", median(pick(ours, cpu)), median(pick(bare, cpu)), work)
	if s.atLeast > 0 && throughput < s.atLeast {
		missed = append(missed, fmt.Sprintf("%s: throughput %.2f of the bare server's, wanted %.2f", s.name, throughput, s.atLeast))
	}
	if s.atMost > 0 && work > s.atMost {
		missed = append(missed, fmt.Sprintf("%s: CPU a gigabyte %.2f of the bare server's, wanted at most %.2f", s.name, work, s.atMost))
	}
	return missed
}

// Targets for starting and for being idle.
const (
	startTarget = 100 * time.Millisecond
	idleTarget  = 30 << 20
)

// startAndIdle starts the broker on empty directories, and looks at its memory
// when it has nothing to do.
func startAndIdle(ctx context.Context, o *options) (missed []string, err error) {
	var ready, rss []float64
	for round := range max(o.rounds, 5) {
		dir := filepath.Join(o.dir, fmt.Sprintf("start-%d", round))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		p, err := startMillrace(ctx, o.millrace, dir)
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(2 * time.Second): // idle for a while
		case <-ctx.Done():
		}
		n, err := p.resident()
		if err != nil {
			return nil, err
		}
		if err := p.stop(); err != nil {
			return nil, err
		}
		ready, rss = append(ready, p.ready.Seconds()*1000), append(rss, float64(n)/(1<<20))
		fmt.Printf("BenchmarkBroker/start-empty-%d\t1\t%d ns/op\t%.1f rss-MiB\n", runtime.NumCPU(), p.ready.Nanoseconds(), float64(n)/(1<<20))
	}
	r, m := median(ready), median(rss)
	fmt.Printf("# ready after %.0f ms; %.1f MiB resident when idle\n", r, m)
	if r > float64(startTarget.Milliseconds()) {
		missed = append(missed, fmt.Sprintf("ready after %.0f ms, wanted %s", r, startTarget))
	}
	if m*(1<<20) > idleTarget {
		missed = append(missed, fmt.Sprintf("%.1f MiB resident when idle, wanted %d", m, idleTarget>>20))
	}
	return missed, nil
}
