package main

import (
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/sdk/plugintest"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

func TestPlugin(t *testing.T) {
	plugintest.Run(t, plugintest.Options{
		Settings:  map[string]string{groupsSetting: "group-0"}, // one of the suite's
		Retention: retentiontest.Options{Independent: true},
	})
}

func BenchmarkPlugin(b *testing.B) { plugintest.Benchmark(b, plugintest.Options{}) }

// TestReads: two old segments, [0,10) and [10,20), and a young one.
func TestReads(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	for _, c := range []struct {
		name      string
		committed map[string]int64
		topic     map[string]string
		change    func(*core.LogView)
		want      int64
	}{
		{name: "all is read", committed: map[string]int64{"a": 30, "b": 30}, want: 20},
		{name: "one has read half of a segment", committed: map[string]int64{"a": 30, "b": 5}, want: 5},
		{name: "one has read nothing here", committed: map[string]int64{"a": 30, "b": -1}},
		{name: "one is not known", committed: map[string]int64{"a": 30}},
		{name: "others do not count", committed: map[string]int64{"a": 30, "b": 30, "c": 2}, want: 20},
		{name: "the topic has its own", committed: map[string]int64{"a": 3, "c": 12}, topic: map[string]string{groupsSetting: " c "}, want: 12},
		{name: "the topic names none", committed: map[string]int64{"a": 30, "b": 30}, topic: map[string]string{groupsSetting: ""}},
		{name: "compacted", committed: map[string]int64{"a": 30, "b": 30}, topic: map[string]string{"cleanup.policy": "compact"}},
		{name: "some groups are not known", committed: map[string]int64{"a": 30, "b": 30}, change: func(v *core.LogView) { v.CommittedComplete = false }},
		{name: "kept for ever", committed: map[string]int64{"a": 30, "b": 30}, change: func(v *core.LogView) { v.RetentionTime = -1 }},
		{name: "read and too young", committed: map[string]int64{"a": 30, "b": 30}, change: func(v *core.LogView) { v.RetentionTime = 3 * hour / 2 }, want: 10},
		{name: "above the high watermark", committed: map[string]int64{"a": 30, "b": 30}, change: func(v *core.LogView) { v.HighWatermark = 15 }, want: 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := time.UnixMilli(1_700_000_000_000)
			ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
			v := core.LogView{
				TopicPartition: core.TopicPartition{Topic: "t"}, Config: c.topic, Now: now, RetentionTime: hour / 2,
				End: 30, HighWatermark: 30, Committed: c.committed, CommittedComplete: true,
				Segments: []core.SegmentState{
					{Base: 0, End: 10, Bytes: 100, MaxTimestamp: ago(2 * hour)},
					{Base: 10, End: 20, Bytes: 100, MaxTimestamp: ago(hour)},
					{Base: 20, End: 30, Bytes: 100, MaxTimestamp: ago(0)},
				},
			}
			if c.change != nil {
				c.change(&v)
			}
			got, err := policy{Groups: []string{"a", "b"}}.Decide(t.Context(), []core.LogView{v})
			if err != nil {
				t.Fatal(err)
			}
			var start int64
			for _, d := range got {
				start = d.Start
			}
			if start != c.want {
				t.Errorf("the log begins at %d, want %d", start, c.want)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	if err := (policy{Groups: []string{"a", " "}}).Validate(); err == nil {
		t.Error("a group without a name was taken")
	}
	if err := (policy{}).Validate(); err != nil {
		t.Error(err)
	}
}
