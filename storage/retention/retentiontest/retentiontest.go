// Package retentiontest is the conformance suite of core.Retention: what the
// broker relies on, whatever a policy keeps.
package retentiontest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
)

// Options say what more is promised of a policy.
type Options struct {
	// SegmentAligned: every new start is the first offset of a segment, or the log's
	// end.
	SegmentAligned bool
	// Independent: what is decided for a log does not depend on the other logs of the
	// call.
	Independent bool
	// KeepsUnread: with retention.ms and retention.bytes at -1 nothing goes that a group
	// has yet to read, nothing where there is no group, and whatever the settings,
	// nothing while the commits of some group are not known.
	KeepsUnread bool
}

// Run tests the policy that open makes. open is called once for each subtest and
// clears up after itself with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) core.Retention, opts Options) {
	for name, test := range map[string]func(*testing.T, core.Retention, Options){
		"NoLogs":         testNoLogs,
		"EmptyLogs":      testEmptyLogs,
		"Decisions":      testDecisions,
		"Deterministic":  testDeterministic,
		"BorrowsViews":   testBorrowsViews,
		"UnknownCommits": testUnknownCommits,
		"Unread":         testUnread,
		"Independent":    testIndependent,
		"Life":           testLife,
		"EndedContext":   testEndedContext,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t), opts)
		})
	}
}

// now is the time of all views; policies have no clock of their own.
func now() time.Time { return time.UnixMilli(1_700_000_000_000) }

// Views makes logs of all shapes, the same for the same seed: empty and long, with
// and without bounds, with a high watermark, a start and a clock anywhere.
func Views(seed uint64, n int) []core.LogView {
	rng := rand.New(rand.NewPCG(seed, 99))
	views := make([]core.LogView, n)
	for i := range views {
		v := &views[i]
		v.Topic, v.Partition, v.Now = fmt.Sprintf("topic-%d", i/4), int32(i%4), now()
		v.RetentionBytes, v.RetentionTime = -1, -1
		v.Config = map[string]string{"retention.bytes": "-1", "retention.ms": "-1"}
		if rng.IntN(3) > 0 {
			v.RetentionBytes = rng.Int64N(8000)
			v.Config["retention.bytes"] = fmt.Sprint(v.RetentionBytes)
		}
		if rng.IntN(3) > 0 {
			v.RetentionTime = time.Duration(rng.Int64N(100_000)) * time.Millisecond
			v.Config["retention.ms"] = fmt.Sprint(v.RetentionTime.Milliseconds())
		}
		offset := rng.Int64N(1000)
		for range rng.IntN(8) {
			s := core.SegmentState{Base: offset, FirstTimestamp: -1, MaxTimestamp: -1, MaxTimestampOffset: offset}
			offset += 1 + rng.Int64N(100)
			s.End, s.Bytes = offset, 1+rng.Int64N(2000)
			s.Modified = v.Now.Add(-time.Duration(rng.IntN(200)) * time.Second)
			if rng.IntN(8) > 0 {
				s.MaxTimestamp = v.Now.UnixMilli() - rng.Int64N(200_000) + 20_000
				s.FirstTimestamp = s.MaxTimestamp - rng.Int64N(1000)
			}
			v.Segments = append(v.Segments, s)
		}
		if len(v.Segments) == 0 || rng.IntN(3) == 0 {
			v.Segments = append(v.Segments, core.SegmentState{
				Base: offset, End: offset, FirstTimestamp: -1, MaxTimestamp: -1, MaxTimestampOffset: -1, Modified: v.Now,
			})
		}
		first := v.Segments[0].Base
		v.End = offset
		v.Start = first
		if v.End > first && rng.IntN(2) == 0 {
			v.Start += rng.Int64N(v.End - first)
		}
		v.HighWatermark = v.End
		if rng.IntN(2) == 0 {
			v.HighWatermark = v.Start + rng.Int64N(v.End-v.Start+1)
		}
		v.CommittedComplete = rng.IntN(2) == 0
		v.Committed = map[string]int64{}
		for g := range rng.IntN(3) {
			offset := v.Start + rng.Int64N(v.End-v.Start+1)
			switch rng.IntN(8) {
			case 0:
				offset = -1 // it has committed for another partition of the topic
			case 1:
				offset += 50 // it was told to skip what does not exist yet, or the log was cut
			case 2:
				offset = rng.Int64N(v.Start + 1) // what it wants is gone
			}
			v.Committed[fmt.Sprintf("group-%d", g)] = offset
		}
	}
	return views
}

func clone(views []core.LogView) []core.LogView {
	views = slices.Clone(views)
	for i := range views {
		views[i].Config = maps.Clone(views[i].Config)
		views[i].Segments = slices.Clone(views[i].Segments)
		views[i].Committed = maps.Clone(views[i].Committed)
	}
	return views
}

func decide(t *testing.T, r core.Retention, views []core.LogView) map[core.TopicPartition]core.Decision {
	t.Helper()
	decisions, err := r.Decide(t.Context(), views)
	if err != nil {
		t.Fatalf("Decide: %v", err)
	}
	byLog := make(map[core.TopicPartition]core.Decision, len(decisions))
	for _, d := range decisions {
		if _, twice := byLog[d.TopicPartition]; twice {
			t.Fatalf("two decisions for %s", d.TopicPartition)
		}
		byLog[d.TopicPartition] = d
	}
	return byLog
}

// check holds decisions against the views that they were made for.
func check(t *testing.T, views []core.LogView, decisions map[core.TopicPartition]core.Decision, opts Options) {
	t.Helper()
	known := 0
	for i := range views {
		v := &views[i]
		d, ok := decisions[v.TopicPartition]
		if !ok {
			continue
		}
		known++
		switch {
		case d.Start <= v.Start:
			t.Errorf("%s: the start %d becomes %d; a decision moves it up", v.TopicPartition, v.Start, d.Start)
		case d.Start > v.HighWatermark:
			t.Errorf("%s: start %d is past the high watermark %d", v.TopicPartition, d.Start, v.HighWatermark)
		case d.Start > v.End:
			t.Errorf("%s: start %d is past the end %d", v.TopicPartition, d.Start, v.End)
		}
		if d.Reason == "" {
			t.Errorf("%s: no reason is given", v.TopicPartition)
		}
		if opts.SegmentAligned && d.Start != v.End &&
			!slices.ContainsFunc(v.Segments, func(s core.SegmentState) bool { return s.Base == d.Start }) {
			t.Errorf("%s: start %d is inside a segment", v.TopicPartition, d.Start)
		}
	}
	if known != len(decisions) {
		t.Errorf("%d of %d decisions are for logs that were not asked about", len(decisions)-known, len(decisions))
	}
}

func testNoLogs(t *testing.T, r core.Retention, _ Options) {
	if d := decide(t, r, nil); len(d) != 0 {
		t.Errorf("decisions for no logs: %v", d)
	}
}

func testEmptyLogs(t *testing.T, r core.Retention, _ Options) {
	for _, segments := range [][]core.SegmentState{nil, {{Base: 5, End: 5, FirstTimestamp: -1, MaxTimestamp: -1, MaxTimestampOffset: -1}}} {
		v := core.LogView{TopicPartition: core.TopicPartition{Topic: "t"}, Start: 5, End: 5, HighWatermark: 5, Segments: segments, Now: now()}
		if d := decide(t, r, []core.LogView{v}); len(d) != 0 {
			t.Errorf("decisions for an empty log: %v", d)
		}
	}
}

func testDecisions(t *testing.T, r core.Retention, opts Options) {
	for seed := range uint64(50) {
		views := Views(seed, 40)
		check(t, views, decide(t, r, views), opts)
	}
}

func testDeterministic(t *testing.T, r core.Retention, _ Options) {
	for seed := range uint64(20) {
		views := Views(seed, 20)
		first := decide(t, r, clone(views))
		if second := decide(t, r, clone(views)); !maps.Equal(first, second) {
			t.Errorf("seed %d: %v, and then %v for the same logs", seed, first, second)
		}
	}
}

// testBorrowsViews: what is passed is not changed and not used after the call.
func testBorrowsViews(t *testing.T, r core.Retention, opts Options) {
	views := Views(3, 40)
	kept := clone(views)
	first := decide(t, r, views)
	if fmt.Sprint(views) != fmt.Sprint(kept) {
		t.Error("Decide changed what it was passed")
	}
	for i := range views {
		clear(views[i].Segments)
		clear(views[i].Config)
		clear(views[i].Committed)
	}
	second := decide(t, r, kept)
	check(t, kept, second, opts)
	if !maps.Equal(first, second) {
		t.Errorf("%v, and then %v after the first views were overwritten", first, second)
	}
}

// testUnknownCommits: offsets that are not known for every group decide nothing.
func testUnknownCommits(t *testing.T, r core.Retention, _ Options) {
	for seed := range uint64(20) {
		views := Views(seed, 20)
		for i := range views {
			views[i].CommittedComplete = false
		}
		with := decide(t, r, clone(views))
		for i := range views {
			views[i].Committed = nil
		}
		if without := decide(t, r, views); !maps.Equal(with, without) {
			t.Errorf("seed %d: incomplete commits change the decisions from %v to %v", seed, without, with)
		}
	}
}

func testUnread(t *testing.T, r core.Retention, opts Options) {
	if !opts.KeepsUnread {
		t.Skip("not promised")
	}
	moved := 0
	for seed := range uint64(50) {
		views := Views(seed, 40)
		for i := range views {
			if v := &views[i]; v.CommittedComplete {
				v.RetentionBytes, v.RetentionTime = -1, -1
				v.Config["retention.bytes"], v.Config["retention.ms"] = "-1", "-1"
			}
		}
		decisions := decide(t, r, clone(views))
		check(t, views, decisions, opts)
		for i := range views {
			v := &views[i]
			d, ok := decisions[v.TopicPartition]
			switch {
			case !ok:
				continue
			case !v.CommittedComplete:
				t.Errorf("%s: the start moves to %d, and not every group is known", v.TopicPartition, d.Start)
			case len(v.Committed) == 0:
				t.Errorf("%s: the start moves to %d, and no group has read anything", v.TopicPartition, d.Start)
			}
			for group, offset := range v.Committed {
				if d.Start > offset {
					t.Errorf("%s: the start moves to %d, and %s has read up to %d", v.TopicPartition, d.Start, group, offset)
				}
			}
			moved++
		}
	}
	if moved == 0 {
		t.Error("what every group has read stays")
	}
}

func testIndependent(t *testing.T, r core.Retention, opts Options) {
	if !opts.Independent {
		t.Skip("not promised")
	}
	views := Views(7, 60)
	all := decide(t, r, clone(views))
	for i := range views {
		one := decide(t, r, clone(views[i:i+1]))
		if one[views[i].TopicPartition] != all[views[i].TopicPartition] {
			t.Errorf("%s: %v alone and %v among others", views[i].TopicPartition, one[views[i].TopicPartition], all[views[i].TopicPartition])
		}
	}
}

// testLife lets logs grow and age, and does with the decisions what the core does.
func testLife(t *testing.T, r core.Retention, opts Options) {
	rng := rand.New(rand.NewPCG(11, 12))
	views := Views(11, 12)
	for range 200 {
		for i := range views {
			v := &views[i]
			v.Now = v.Now.Add(time.Duration(rng.IntN(5000)) * time.Millisecond)
			active := &v.Segments[len(v.Segments)-1]
			if rng.IntN(2) == 0 {
				v.End += 1 + rng.Int64N(20)
				active.End, active.Bytes, active.Modified = v.End, active.Bytes+rng.Int64N(500)+1, v.Now
				active.MaxTimestamp = max(active.MaxTimestamp, v.Now.UnixMilli())
			}
			if rng.IntN(4) == 0 && active.Bytes > 0 {
				roll(v)
			}
			v.HighWatermark += rng.Int64N(v.End - v.HighWatermark + 1)
		}
		decisions := decide(t, r, clone(views))
		check(t, views, decisions, opts)
		if t.Failed() {
			return
		}
		for i := range views {
			if d, ok := decisions[views[i].TopicPartition]; ok {
				trim(&views[i], d.Start)
			}
		}
	}
}

func roll(v *core.LogView) {
	v.Segments = append(v.Segments, core.SegmentState{
		Base: v.End, End: v.End, FirstTimestamp: -1, MaxTimestamp: -1, MaxTimestampOffset: -1, Modified: v.Now,
	})
}

func trim(v *core.LogView, start int64) {
	if start == v.End && v.Segments[len(v.Segments)-1].Bytes > 0 {
		roll(v)
	}
	v.Start = start
	for len(v.Segments) > 1 && v.Segments[1].Base <= start {
		v.Segments = v.Segments[1:]
	}
}

// testEndedContext: a policy may finish or give up, but not hang, and what it
// answers counts.
func testEndedContext(t *testing.T, r core.Retention, opts Options) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	views := Views(5, 10)
	decisions, err := r.Decide(ctx, views)
	if err != nil {
		return
	}
	byLog := make(map[core.TopicPartition]core.Decision, len(decisions))
	for _, d := range decisions {
		byLog[d.TopicPartition] = d
	}
	check(t, views, byLog, opts)
}
