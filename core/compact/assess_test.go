package compact_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
)

func TestAssess(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_000_000)
	seg := func(base, end, bytes, ts int64) core.SegmentState {
		return core.SegmentState{Base: base, End: end, Bytes: bytes, FirstTimestamp: ts, MaxTimestamp: ts + 10, Modified: time.UnixMilli(ts)}
	}
	st := core.LogState{Start: 0, End: 45, Segments: []core.SegmentState{
		seg(0, 10, 100, 100_000), seg(10, 20, 100, 200_000), seg(20, 28, 200, 300_000), seg(30, 40, 400, 400_000), seg(40, 45, 50, 500_000),
	}}
	for name, c := range map[string]struct {
		p                         compact.Policy
		from, below, clean, dirty int64
		overdue                   time.Duration
		worth                     bool
	}{
		"never compacted":         {compact.Policy{Stable: 45, MinRatio: 0.5}, 0, 40, 0, 800, 0, true},
		"half and half":           {compact.Policy{Point: 30, Stable: 45, MinRatio: 0.5}, 30, 40, 400, 400, 0, false},
		"a bit more":              {compact.Policy{Point: 30, Stable: 45, MinRatio: 0.49}, 30, 40, 400, 400, 0, true},
		"nothing new":             {compact.Policy{Point: 40, Stable: 45}, 40, 40, 800, 0, 0, false},
		"in the active one":       {compact.Policy{Point: 42, Stable: 45}, 42, 42, 800, 0, 0, false},
		"within a segment":        {compact.Policy{Point: 25, Stable: 45, MinRatio: 0.5}, 25, 40, 400, 600, 0, true},
		"unstable":                {compact.Policy{Stable: 39}, 0, 30, 0, 400, 0, true},
		"stable at a base":        {compact.Policy{Stable: 30}, 0, 30, 0, 400, 0, true},
		"nothing stable":          {compact.Policy{Stable: 5}, 0, 0, 0, 0, 0, false},
		"point beyond the end":    {compact.Policy{Point: 46, Stable: 45}, 0, 40, 0, 800, 0, true},
		"minimal lag":             {compact.Policy{Stable: 45, MinLag: 650 * time.Second}, 0, 30, 0, 400, 0, true},
		"minimal lag, clean part": {compact.Policy{Point: 30, Stable: 45, MinLag: 750 * time.Second}, 30, 30, 400, 0, 0, false},
		"minimal lag of all":      {compact.Policy{Stable: 45, MinLag: time.Hour}, 0, 0, 0, 0, 0, false},
		"maximal lag":             {compact.Policy{Point: 30, Stable: 45, MinRatio: 1, MaxLag: 599 * time.Second}, 30, 40, 400, 400, time.Second, true},
		"maximal lag not reached": {compact.Policy{Point: 30, Stable: 45, MinRatio: 1, MaxLag: 601 * time.Second}, 30, 40, 400, 400, 0, false},
		"maximal lag, unstable":   {compact.Policy{Point: 20, Stable: 29, MinRatio: 1, MaxLag: time.Second}, 20, 20, 200, 0, 0, false},
		"ratio of one":            {compact.Policy{Stable: 45, MinRatio: 1}, 0, 40, 0, 800, 0, false},
	} {
		c.p.Now = now
		got := compact.Assess(st, c.p)
		want := compact.Candidate{From: c.from, Below: c.below, Clean: c.clean, Dirty: c.dirty, Overdue: c.overdue, Worth: c.worth}
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	trimmed := st
	trimmed.Start = 15
	if got := compact.Assess(trimmed, compact.Policy{Point: 5, Stable: 45, Now: now}); got.From != 15 {
		t.Errorf("trimmed above the point: %+v", got)
	}
	if got := compact.Assess(core.LogState{}, compact.Policy{}); got.Worth {
		t.Errorf("no log: %+v", got)
	}
}
