package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// TestGuard produces keys where the Java client puts them and elsewhere, to topics that
// are guarded in every way.
func TestGuard(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t)
	client := func(p kgo.Partitioner, opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Seed()), kgo.Dialer(b.DialContext), kgo.RecordPartitioner(p))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	right, wrong := client(kgo.StickyKeyPartitioner(nil)), client(kgo.ManualPartitioner())
	adm := kadm.NewClient(right)
	for topic, set := range map[string]map[string]string{
		"reject": {"partitioner": "murmur2", "partitioner.guard": "reject"},
		"warn":   {"partitioner": "murmur2", "partitioner.guard": "warn"},
		"off":    {"partitioner": "murmur2"},
	} {
		configs := map[string]*string{}
		for k, v := range set {
			configs[k] = &v
		}
		if _, err := adm.CreateTopic(t.Context(), 5, 1, configs, topic); err != nil {
			t.Fatal(err)
		}
	}
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression()} {
		right := client(kgo.StickyKeyPartitioner(nil), kgo.ProducerBatchCompression(codec))
		for _, topic := range []string{"reject", "warn", "off"} {
			for i := range 50 {
				r := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key-%d", i), Value: []byte("v")}
				if i == 0 {
					r.Key = nil // right anywhere
				}
				if err := right.ProduceSync(t.Context(), r).FirstErr(); err != nil {
					t.Fatalf("%s: a record in its place: %v", topic, err)
				}
			}
		}
	}
	// Five partitions: four of them are wrong for a key.
	refused := 0
	for p := range int32(5) {
		for _, topic := range []string{"reject", "warn", "off"} {
			err := wrong.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: p, Key: []byte("some key"), Value: []byte("v")}).FirstErr()
			switch {
			case topic != "reject" && err != nil:
				t.Errorf("%s, partition %d: %v", topic, p, err)
			case topic == "reject" && errors.Is(err, kerr.InvalidRecord):
				refused++
			case topic == "reject" && err != nil:
				t.Errorf("partition %d: %v", p, err)
			}
		}
	}
	if refused != 4 {
		t.Errorf("%d of 5 partitions were refused, want 4", refused)
	}
	families, err := b.Metrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "millrace_topic_misplaced_records_total" {
			for _, m := range f.Metric {
				counted[m.Label[0].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	if counted["reject"] != 4 || counted["warn"] != 4 || counted["off"] != 0 {
		t.Errorf("misplaced records counted: %v", counted)
	}
}
