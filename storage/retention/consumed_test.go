package retention_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/storage/retention"
)

func TestConsumed(t *testing.T) {
	t.Parallel()
	// Four segments of ten records, 40 to 10 seconds old, and two groups.
	four := func(a, b int64, edit func(v *core.LogView)) core.LogView {
		v := view(seg{100, 40}, seg{100, 30}, seg{100, 20}, seg{100, 10})
		v.Committed, v.CommittedComplete = map[string]int64{"a": a, "b": b}, true
		if edit != nil {
			edit(&v)
		}
		return v
	}
	floor := func(ms string) func(v *core.LogView) {
		return func(v *core.LogView) { v.Config = map[string]string{"retention.consumed.min.ms": ms} }
	}
	const read = "read by every group"
	for name, c := range map[string]struct {
		view   core.LogView
		start  int64 // 0: all is kept
		reason string
	}{
		"up to the slowest group, to the record":   {four(33, 17, nil), 17, read},
		"all have read all":                        {four(40, 40, nil), 40, read},
		"one has read nothing":                     {four(40, 0, nil), 0, ""},
		"one has committed elsewhere only":         {four(40, -1, nil), 0, ""},
		"a group beyond the end":                   {four(1000, 1000, nil), 40, read},
		"the high watermark":                       {four(40, 40, func(v *core.LogView) { v.HighWatermark = 25 }), 25, read},
		"a group whose records are gone":           {four(40, 3, func(v *core.LogView) { v.Start = 10 }), 0, ""},
		"not every group is known":                 {four(40, 40, func(v *core.LogView) { v.CommittedComplete = false }), 0, ""},
		"nor do the ceilings count then":           {four(40, 40, func(v *core.LogView) { v.CommittedComplete, v.RetentionTime = false, 0 }), 0, ""},
		"no group":                                 {four(0, 0, func(v *core.LogView) { v.Committed = nil }), 0, ""},
		"no group, and the ceiling in time":        {four(0, 0, func(v *core.LogView) { v.Committed, v.RetentionTime = nil, 25*time.Second }), 20, "retention.ms"},
		"the ceiling in time takes what is unread": {four(40, 5, func(v *core.LogView) { v.RetentionTime = 25 * time.Second }), 20, "retention.ms"},
		"the ceiling in size too":                  {four(40, 5, func(v *core.LogView) { v.RetentionBytes = 300 }), 10, "retention.bytes"},
		"what is read goes beyond the ceiling":     {four(40, 27, func(v *core.LogView) { v.RetentionTime = 25 * time.Second }), 27, read},
		"compacted":                                {four(40, 40, func(v *core.LogView) { v.Config = map[string]string{"cleanup.policy": "compact"} }), 0, ""},

		"a floor keeps the younger segments":   {four(40, 40, floor("25000")), 20, read},
		"to the millisecond":                   {four(40, 40, floor("30000")), 20, read},
		"and one more":                         {four(40, 40, floor("30001")), 10, read},
		"a floor below which all lies":         {four(40, 33, floor("10000")), 33, read},
		"a floor above all":                    {four(40, 40, floor("60000")), 0, ""},
		"a floor over the middle of a segment": {four(40, 15, floor("35000")), 10, read},
		"a floor with an unknown age": {four(40, 40, func(v *core.LogView) {
			floor("1")(v)
			v.Segments[1].MaxTimestamp, v.Segments[1].Modified = -1, time.Time{}
		}), 10, read},
		"a floor and an empty active segment": {four(40, 40, func(v *core.LogView) {
			floor("5000")(v)
			v.Segments = append(v.Segments, core.SegmentState{Base: 40, End: 40, MaxTimestamp: -1})
		}), 40, read},
		"the ceiling wins over the floor":       {four(40, 40, func(v *core.LogView) { floor("60000")(v); v.RetentionTime = 25 * time.Second }), 20, "retention.ms"},
		"timestamps of the future are no floor": {four(40, 40, func(v *core.LogView) { v.Segments[0].MaxTimestamp = v.Now.UnixMilli() + 1e6 }), 40, read},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []core.Decision
			if c.start != 0 {
				want = []core.Decision{{TopicPartition: c.view.TopicPartition, Start: c.start, Reason: c.reason}}
			}
			got, err := retention.Consumed{}.Decide(t.Context(), []core.LogView{c.view})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConsumedFloorOfTheBroker: the factory's own setting counts where a view has no
// value, and cannot be negative.
func TestConsumedFloorOfTheBroker(t *testing.T) {
	t.Parallel()
	factories, err := retention.All()
	if err != nil {
		t.Fatal(err)
	}
	reg, err := core.NewRegistry("retention.policy", factories...)
	if err != nil {
		t.Fatal(err)
	}
	build := func(value string) (core.Retention, error) {
		return reg.Build(t.Context(), retention.ConsumedName, core.Env{Settings: func(name string) (string, bool) {
			return value, name == "retention.consumed.min.ms"
		}})
	}
	p, err := build("25000")
	if err != nil {
		t.Fatal(err)
	}
	v := view(seg{100, 40}, seg{100, 30}, seg{100, 20}, seg{100, 10})
	v.Committed, v.CommittedComplete = map[string]int64{"a": 40}, true
	got, err := p.Decide(t.Context(), []core.LogView{v})
	if err != nil || len(got) != 1 || got[0].Start != 20 {
		t.Errorf("decided %v, %v", got, err)
	}
	if _, err := build("-1"); !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("a floor of -1: %v", err)
	}
}
