package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// result is what one round of one server gave.
type result struct {
	mbPerSec float64
	cpuPerGB float64 // CPU seconds of the server
	opsPerS  float64
}

// scenario is one thing to measure.
type scenario struct {
	name  string
	kind  string // produce, fetch or small
	size  int    // of a batch or a fetch
	conns int
	// atLeast is the part of the bare server's throughput to reach, atMost how much
	// of its CPU for a gigabyte may be used; 0 when there is no target.
	atLeast, atMost float64
}

func scenarios() []scenario {
	return []scenario{
		{"produce-64KiB-x4", "produce", 64 << 10, 4, 0.8, 1.25},
		{"produce-64KiB-x1", "produce", 64 << 10, 1, 0, 0},
		{"produce-1MiB-x1", "produce", 1000 << 10, 1, 0, 0},
		{"produce-4KiB-x4", "produce", 4 << 10, 4, 0, 0},
		{"fetch-1MiB-x8", "fetch", 1 << 20, 8, 0.9, 1.25},
		{"fetch-64KiB-x8", "fetch", 66 << 10, 8, 0, 0},
		{"small-x8", "small", 0, 8, 0, 0},
	}
}

func run(ctx context.Context, o *options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "millrace-bench")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // scratch
		o.dir = dir
	}
	if o.millrace == "" {
		bin, err := buildMillrace(ctx, o.dir)
		if err != nil {
			return err
		}
		o.millrace = bin
	}
	fmt.Printf("goos: %s\ngoarch: %s\npkg: github.com/millrace/millrace/test/bench\ncpu: %d cores, %s\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel())
	var missed []string
	for _, part := range scaleParts(o) {
		m, err := part(ctx, o)
		if err != nil {
			return err
		}
		missed = append(missed, m...)
	}
	for _, s := range scenarios() {
		if o.scale {
			break
		}
		if o.only != "" && !strings.Contains(s.name, o.only) {
			continue
		}
		bare, ours, err := measure(ctx, o, &s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		missed = append(missed, summarise(&s, bare, ours)...)
	}
	if !o.scale && (o.only == "" || strings.Contains("start idle", o.only)) {
		m, err := startAndIdle(ctx, o)
		if err != nil {
			return err
		}
		missed = append(missed, m...)
	}
	if !o.scale && (o.only == "" || strings.Contains("start plugins", o.only)) {
		m, err := startWithPlugins(ctx, o)
		if err != nil {
			return err
		}
		missed = append(missed, m...)
	}
	if len(missed) > 0 {
		fmt.Println("# targets missed:\n#   " + strings.Join(missed, "\n#   "))
		if o.check {
			return fmt.Errorf("%d targets missed", len(missed))
		}
	}
	return nil
}

func kernel() string {
	out, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return "unknown kernel"
	}
	return strings.TrimSpace(string(out))
}

// measure runs rounds of both servers in turn.
func measure(ctx context.Context, o *options, s *scenario) (bare, ours []result, err error) {
	dir := filepath.Join(o.dir, s.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // scratch
	fetch := 0
	if s.kind == "fetch" {
		fetch = s.size
	}
	b, err := startBare(ctx, dir, "-fetch", strconv.Itoa(fetch))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	m, err := startMillrace(ctx, o.millrace, dir)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	adm, err := admin(m.addr)
	if err != nil {
		return nil, nil, err
	}
	defer adm.Close()
	for round := -1; round < o.rounds; round++ { // the first one warms up
		for _, p := range []*process{b, m} {
			r, err := oneRound(ctx, o, s, p, adm, p == m, round)
			if err != nil {
				return nil, nil, err
			}
			if round < 0 {
				continue
			}
			who := "bare"
			if p == m {
				who = "millrace"
				ours = append(ours, r)
			} else {
				bare = append(bare, r)
			}
			fmt.Printf("BenchmarkBroker/%s/%s-%d\t%d\t%.0f ns/op\t%.1f MB/s\t%.3f cpu-s/GB\n",
				s.name, who, runtime.NumCPU(), int(r.opsPerS), 1e9/r.opsPerS, r.mbPerSec, r.cpuPerGB)
		}
	}
	return bare, ours, nil
}

// settled waits until a server has done what the last round left behind, the removal
// of its files above all, and returns the CPU it has used.
func settled(ctx context.Context, p *process) (time.Duration, error) {
	const step, patience = 150 * time.Millisecond, 100
	last, err := p.cpu()
	for range patience {
		select {
		case <-time.After(step):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		now, nowErr := p.cpu()
		if err = errors.Join(err, nowErr); err != nil || now-last <= 10*time.Millisecond {
			return now, err
		}
		last = now
	}
	return last, nil
}

// topicPartitions is enough for a partition for each connection.
const topicPartitions = 8

func oneRound(ctx context.Context, o *options, s *scenario, p *process, adm *kadm.Client, ours bool, round int) (result, error) {
	topic := fmt.Sprintf("%s-%d", s.name, round+1)
	var l *load
	volume := o.volume
	switch s.kind {
	case "produce":
		var err error
		if l, err = produceLoad(topic, s.size, s.conns); err != nil {
			return result{}, err
		}
		if s.size < 16<<10 {
			volume /= 4
		}
	case "fetch":
		topic = "fetch"
		l = fetchLoad(topic, s.size, s.conns, topicPartitions)
		volume *= 4
	case "small":
		l = smallLoad(s.conns, 16)
		volume = 400_000
	}
	if ours && s.kind != "small" && (s.kind == "produce" || round < 0) {
		if err := create(ctx, adm, topic); err != nil {
			return result{}, err
		}
		if s.kind == "fetch" {
			if err := fill(ctx, p.addr, topic); err != nil {
				return result{}, err
			}
		}
	}
	before, err := settled(ctx, p)
	if err != nil {
		return result{}, err
	}
	took, err := l.run(ctx, p.addr, volume)
	if err != nil {
		return result{}, err
	}
	after, err := p.cpu()
	if err != nil {
		return result{}, err
	}
	if ours && s.kind == "produce" {
		if _, err := adm.DeleteTopic(ctx, topic); err != nil {
			return result{}, err
		}
	}
	moved := float64(volume)
	return result{
		mbPerSec: moved / 1e6 / took.Seconds(),
		cpuPerGB: (after - before).Seconds() / (moved / 1e9),
		opsPerS:  moved / float64(l.payload) / took.Seconds(),
	}, nil
}

func admin(addr string) (*kadm.Client, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}

func create(ctx context.Context, adm *kadm.Client, topic string) error {
	limit := "10485760"
	resp, err := adm.CreateTopic(ctx, topicPartitions, 1, map[string]*string{"max.message.bytes": &limit}, topic)
	if err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	return resp.Err
}

// fill writes 16 MiB to each partition.
func fill(ctx context.Context, addr, topic string) error {
	l, err := produceLoad(topic, 64<<10, topicPartitions)
	if err != nil {
		return err
	}
	_, err = l.run(ctx, addr, topicPartitions*16<<20)
	return err
}
