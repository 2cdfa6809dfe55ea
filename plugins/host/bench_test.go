package host_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/storage/retention"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

// batch is n records with 16-byte keys for a topic with 64 partitions.
func batch(n int) ([]core.RecordView, core.TopicInfo, []int32) {
	records := make([]core.RecordView, n)
	for i := range records {
		records[i].Key = fmt.Appendf(nil, "%016d", i*7919)
	}
	topic := core.TopicInfo{Name: "t", Partitions: make([]core.PartitionInfo, 64)}
	for i := range topic.Partitions {
		topic.Partitions[i].Available = true
	}
	return records, topic, make([]int32, n)
}

// BenchmarkPartitioner places keys in batches of 1,000 with one and the same partitioner:
// in the process, in a plugin by its rule, and in a plugin that is asked, by one producer
// and by two side by side. They take turns, so that the ratios mean something on a busy
// machine. ns/key is what counts; a call with a single key, which is all overhead, stands
// beside it.
func BenchmarkPartitioner(b *testing.B) {
	const n = 1000
	asked, _ := mustOpen(b, settings(b, "good"))
	ruled, _ := mustOpen(b, settings(b, "rule"))
	records, topic, out := batch(n)
	cases := []struct {
		name string
		p    core.Partitioner
		took time.Duration
	}{
		{name: "in-process", p: partitioners.NewMurmur2(partitioners.Options{})},
		{name: "rule", p: partitioner(b, ruled)},
		{name: "plugin", p: partitioner(b, asked)},
	}
	second := partitioner(b, asked)
	outs := make([]int32, n)
	var both, single time.Duration
	for i := range cases { // rules are fetched, connections warm
		if err := cases[i].p.Partition(b.Context(), topic, records, out); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		for i := range cases {
			begin := time.Now()
			if err := cases[i].p.Partition(b.Context(), topic, records, out); err != nil {
				b.Fatal(err)
			}
			cases[i].took += time.Since(begin)
		}
		begin := time.Now()
		if err := cases[2].p.Partition(b.Context(), topic, records[:1], out[:1]); err != nil {
			b.Fatal(err)
		}
		single += time.Since(begin)
		begin = time.Now()
		done := make(chan error, 1)
		go func() { done <- second.Partition(b.Context(), topic, records, outs) }()
		if err := errors.Join(cases[2].p.Partition(b.Context(), topic, records, out), <-done); err != nil {
			b.Fatal(err)
		}
		both += time.Since(begin)
	}
	for _, c := range cases {
		b.ReportMetric(float64(c.took.Nanoseconds())/float64(b.N)/n, c.name+"-ns/key")
	}
	b.ReportMetric(float64(both.Nanoseconds())/float64(b.N)/(2*n), "plugin×2-ns/key")
	b.ReportMetric(single.Seconds()/float64(b.N)*1e6, "one-key-µs")
	b.ReportMetric(float64(cases[1].took)/float64(cases[0].took), "rule/in-process")
	b.ReportMetric(float64(cases[2].took)/float64(cases[0].took), "plugin/in-process")
}

// BenchmarkRetention decides about 10,000 logs in one call, in the process and in a
// plugin in turn.
func BenchmarkRetention(b *testing.B) {
	h, _ := mustOpen(b, settings(b, "good"))
	views := retentiontest.Views(1, 10_000)
	far := policy(b, h)
	var near, there time.Duration
	for b.Loop() {
		begin := time.Now()
		if _, err := (retention.TimeSize{}).Decide(b.Context(), views); err != nil {
			b.Fatal(err)
		}
		near += time.Since(begin)
		begin = time.Now()
		if _, err := far.Decide(b.Context(), views); err != nil {
			b.Fatal(err)
		}
		there += time.Since(begin)
	}
	b.ReportMetric(near.Seconds()/float64(b.N)*1000, "in-process-ms")
	b.ReportMetric(there.Seconds()/float64(b.N)*1000, "plugin-ms")
}

// BenchmarkStart starts three plugins side by side, as a broker does before everything
// else, and ends them.
func BenchmarkStart(b *testing.B) {
	s := settings(b, "good")
	for _, name := range []string{"q", "r"} {
		s["plugin."+name+".path"], s["plugin."+name+".environment"] = s["plugin.p.path"], s["plugin.p.environment"]
	}
	var started time.Duration
	for b.Loop() {
		begin := time.Now()
		h, _, err := open(b, s)
		if err != nil {
			b.Fatal(err)
		}
		started += time.Since(begin)
		h.Close()
	}
	b.ReportMetric(started.Seconds()/float64(b.N)*1000, "start-ms")
}
