package retention_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/storage/retention"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	factories, err := retention.All()
	if err != nil {
		t.Fatal(err)
	}
	registry, err := core.NewRegistry("retention policy", factories...)
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]retentiontest.Options{
		retention.Name:         {SegmentAligned: true, Independent: true},
		retention.ConsumedName: {KeepsUnread: true, Independent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			retentiontest.Run(t, func(t *testing.T) core.Retention {
				r, err := registry.Build(t.Context(), name, core.Env{})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}, opts)
		})
	}
}

// A segment of the tables: it holds ten offsets, is so many bytes large, and its
// newest record so many seconds old.
type seg struct{ bytes, age int64 }

func view(segments ...seg) core.LogView {
	now := time.UnixMilli(1_700_000_000_000)
	v := core.LogView{TopicPartition: core.TopicPartition{Topic: "t", Partition: 3}, RetentionBytes: -1, RetentionTime: -1, Now: now}
	for i, s := range segments {
		base := int64(10 * i)
		state := core.SegmentState{
			Base: base, End: base + 10, Bytes: s.bytes, FirstTimestamp: now.UnixMilli() - 1000*s.age - 1,
			MaxTimestamp: now.UnixMilli() - 1000*s.age, MaxTimestampOffset: base + 9, Modified: now,
		}
		if s.bytes == 0 {
			state.End, state.FirstTimestamp, state.MaxTimestamp, state.MaxTimestampOffset = base, -1, -1, -1
		}
		v.Segments = append(v.Segments, state)
		v.End = state.End
	}
	v.HighWatermark = v.End
	return v
}

func TestDecide(t *testing.T) {
	t.Parallel()
	four := func(edit func(v *core.LogView)) core.LogView {
		v := view(seg{100, 40}, seg{100, 30}, seg{100, 20}, seg{100, 10})
		edit(&v)
		return v
	}
	for name, c := range map[string]struct {
		view   core.LogView
		start  int64 // 0: all is kept
		reason string
	}{
		"no bounds":       {four(func(*core.LogView) {}), 0, ""},
		"negative bounds": {four(func(v *core.LogView) { v.RetentionBytes, v.RetentionTime = -7, -time.Hour }), 0, ""},

		"age":                         {four(func(v *core.LogView) { v.RetentionTime = 25 * time.Second }), 20, "retention.ms"},
		"age reached but not passed":  {four(func(v *core.LogView) { v.RetentionTime = 30 * time.Second }), 10, "retention.ms"},
		"age passed by a millisecond": {four(func(v *core.LogView) { v.RetentionTime = 30*time.Second - time.Millisecond }), 20, "retention.ms"},
		"none is old enough":          {four(func(v *core.LogView) { v.RetentionTime = time.Minute }), 0, ""},
		"all are, the active one too": {four(func(v *core.LogView) { v.RetentionTime = time.Second }), 40, "retention.ms"},
		"no time at all":              {four(func(v *core.LogView) { v.RetentionTime = 0 }), 40, "retention.ms"},
		"for ever":                    {four(func(v *core.LogView) { v.RetentionTime = math.MaxInt64 }), 0, ""},
		"the active one is empty":     {func() core.LogView { v := view(seg{100, 40}, seg{0, 0}); v.RetentionTime = 0; return v }(), 10, "retention.ms"},
		"only an empty one":           {func() core.LogView { v := view(seg{0, 0}); v.RetentionTime, v.RetentionBytes = 0, 0; return v }(), 0, ""},
		"a young one keeps the older after it": {func() core.LogView {
			v := view(seg{100, 40}, seg{100, 5}, seg{100, 40}, seg{100, 1})
			v.RetentionTime = 10 * time.Second
			return v
		}(), 10, "retention.ms"},
		"timestamps of the future": {func() core.LogView { v := view(seg{100, -1000}, seg{100, 40}); v.RetentionTime = 0; return v }(), 0, ""},
		"without timestamps the last append counts": {four(func(v *core.LogView) {
			v.RetentionTime = 5 * time.Second
			v.Segments[0].MaxTimestamp, v.Segments[0].Modified = -1, v.Now.Add(-6*time.Second)
			v.Segments[1].MaxTimestamp, v.Segments[1].Modified = -1, v.Now.Add(-5*time.Second)
		}), 10, "retention.ms"},
		"without timestamps and last append it stays": {four(func(v *core.LogView) {
			v.RetentionTime = 5 * time.Second
			v.Segments[0].MaxTimestamp, v.Segments[0].Modified = -1, time.Time{}
		}), 0, ""},

		"size":                             {four(func(v *core.LogView) { v.RetentionBytes = 200 }), 20, "retention.bytes"},
		"size that cuts through a segment": {four(func(v *core.LogView) { v.RetentionBytes = 201 }), 10, "retention.bytes"},
		"size of all":                      {four(func(v *core.LogView) { v.RetentionBytes = 400 }), 0, ""},
		"a segment less than all":          {four(func(v *core.LogView) { v.RetentionBytes = 300 }), 10, "retention.bytes"},
		"a byte more":                      {four(func(v *core.LogView) { v.RetentionBytes = 301 }), 0, ""},
		"no bytes":                         {four(func(v *core.LogView) { v.RetentionBytes = 0 }), 40, "retention.bytes"},
		"more than there are":              {four(func(v *core.LogView) { v.RetentionBytes = math.MaxInt64 }), 0, ""},
		"a large first segment is kept":    {func() core.LogView { v := view(seg{500, 1}, seg{1, 1}, seg{1, 1}); v.RetentionBytes = 100; return v }(), 0, ""},

		"size, then age":       {four(func(v *core.LogView) { v.RetentionBytes, v.RetentionTime = 300, 25*time.Second }), 20, "retention.bytes and retention.ms"},
		"age that size covers": {four(func(v *core.LogView) { v.RetentionBytes, v.RetentionTime = 100, 35*time.Second }), 30, "retention.bytes"},
		"age behind what size deletes": {func() core.LogView {
			v := view(seg{100, 1}, seg{100, 40}, seg{100, 1})
			v.RetentionBytes, v.RetentionTime = 200, 10*time.Second
			return v
		}(), 20, "retention.bytes and retention.ms"},

		"high watermark inside a segment": {four(func(v *core.LogView) { v.RetentionTime, v.HighWatermark = 0, 29 }), 20, "retention.ms"},
		"high watermark at a boundary":    {four(func(v *core.LogView) { v.RetentionBytes, v.HighWatermark = 0, 30 }), 30, "retention.bytes"},
		"high watermark below the end":    {four(func(v *core.LogView) { v.RetentionBytes, v.HighWatermark = 0, 39 }), 30, "retention.bytes"},
		"high watermark at the start":     {four(func(v *core.LogView) { v.RetentionTime, v.HighWatermark = 0, 0 }), 0, ""},

		"start inside a segment":            {four(func(v *core.LogView) { v.RetentionTime, v.Start = 25*time.Second, 15 }), 20, "retention.ms"},
		"what lies below the start is gone": {four(func(v *core.LogView) { v.RetentionBytes, v.Start = 300, 10 }), 0, ""},
		"and its bytes do not count":        {four(func(v *core.LogView) { v.RetentionBytes, v.Start = 200, 10 }), 20, "retention.bytes"},
		"start at the end":                  {four(func(v *core.LogView) { v.RetentionTime, v.Start = 0, 40 }), 0, ""},
		"gaps between segments": {four(func(v *core.LogView) {
			v.RetentionTime = 25 * time.Second
			v.Segments[1].End = 12 // a compacted log
		}), 20, "retention.ms"},

		"compacted": {four(func(v *core.LogView) { v.RetentionTime = 0; v.Config = map[string]string{"cleanup.policy": "compact"} }), 0, ""},
		"compacted and deleted": {four(func(v *core.LogView) {
			v.RetentionTime = 0
			v.Config = map[string]string{"cleanup.policy": "compact, delete"}
		}), 40, "retention.ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []core.Decision
			if c.start != 0 {
				want = []core.Decision{{TopicPartition: c.view.TopicPartition, Start: c.start, Reason: c.reason}}
			}
			got, err := retention.TimeSize{}.Decide(t.Context(), []core.LogView{c.view})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecideStopsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (retention.TimeSize{}).Decide(ctx, []core.LogView{view(seg{1, 1})}); !errors.Is(err, context.Canceled) {
		t.Errorf("Decide: %v", err)
	}
}

func BenchmarkDecide(b *testing.B) {
	views := retentiontest.Views(1, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (retention.TimeSize{}).Decide(b.Context(), views); err != nil {
			b.Fatal(err)
		}
	}
}
