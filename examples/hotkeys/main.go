// Command hotkeys is a plugin: a partitioner that keeps one busy key from filling one
// partition. Keys go where Kafka's default puts them, but one that makes up more than a
// share of what its producer sends to a topic is spread over several partitions:
//
//	plugin.hotkeys.path=/opt/millrace/plugins/hotkeys
//	partitioner.hotkeys.share=0.05
//	partitioner.hotkeys.fanout=4
//	partitioner.hotkeys.decay=10000
//
// A topic uses it with partitioner=hotkeys. Of such a key the records keep no order among
// each other, and whoever wants all of them has to read all the partitions; a table or a
// compacted topic keyed by it is wrong. The order is lost at the moment at which the key becomes
// hot, not only while it is. For the same reason it cannot guard a topic: where a record
// goes depends on what went before. Each producer counts for itself, so two producers may
// differ about a key.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/plugin"
)

func main() { plugin.Serve(options()...) }

func options() []plugin.Option {
	return []plugin.Option{
		plugin.Program("hotkeys", "1.0.0"),
		plugin.Partitioner("hotkeys", "spreads keys that are too frequent over several partitions", defaults(), build),
	}
}

// config is the plugin's settings.
type config struct {
	Share  float64 `setting:"partitioner.hotkeys.share" doc:"Share of a topic's keyed records, between 0.001 and 1, above which a key is hot."`
	Fanout int     `setting:"partitioner.hotkeys.fanout" doc:"How many partitions a hot key is spread over."`
	Decay  int     `setting:"partitioner.hotkeys.decay" doc:"After so many keyed records of a topic all counts are halved, so that what was hot may cool."`
}

func defaults() config { return config{Share: 0.05, Fanout: 4, Decay: 10_000} }

// minShare bounds the memory: the sketch has sharper/share counters a topic.
const minShare = 0.001

// warm is how many records, in multiples of 1/share, have to be counted before a key
// may be hot: every key is all of the first record.
const warm = 10

// Validate is called when the broker starts, so that a mistake shows there.
func (c config) Validate() error {
	var errs []error
	if !(c.Share >= minShare && c.Share <= 1) { // not a number is neither
		errs = append(errs, fmt.Errorf("partitioner.hotkeys.share=%v: want %v to 1", c.Share, minShare))
	}
	if c.Fanout < 2 {
		errs = append(errs, fmt.Errorf("partitioner.hotkeys.fanout=%d: want 2 or more", c.Fanout))
	}
	if least := 4 * warm / c.Share; c.Share >= minShare && float64(c.Decay) < least {
		errs = append(errs, fmt.Errorf("partitioner.hotkeys.decay=%d: want at least %.0f, or a share of %v is not seen", c.Decay, least, c.Share))
	}
	return errors.Join(errs...)
}

// partitioner serves one producer.
type partitioner struct {
	cfg    config
	topics map[string]*topic
}

// topic is what is remembered of a topic.
type topic struct {
	counts  *sketch
	seen    int    // since the counts were halved
	keyless uint32 // calls
}

func build(_ context.Context, _ core.Env, c config) (*partitioner, error) {
	return &partitioner{cfg: c, topics: map[string]*topic{}}, nil
}

var errNoPartitions = errors.New("the topic has no partitions")

// Partition implements core.Partitioner. Records without a key go to one partition for
// each call, and to the next with the next call.
func (p *partitioner) Partition(_ context.Context, info core.TopicInfo, records []core.RecordView, out []int32) error {
	n := uint32(len(info.Partitions))
	if n == 0 {
		return errNoPartitions
	}
	t := p.topics[info.Name]
	if t == nil {
		t = &topic{counts: newSketch(p.cfg.Share)}
		p.topics[info.Name] = t
	}
	keyless := available(info, t.keyless%n, n)
	t.keyless++
	for i := range records {
		if records[i].Key == nil {
			out[i] = int32(keyless)
			continue
		}
		out[i] = int32(p.place(t, info, records[i].Key, n))
	}
	return nil
}

func (p *partitioner) place(t *topic, info core.TopicInfo, key []byte, n uint32) uint32 {
	if t.seen++; t.seen > p.cfg.Decay {
		t.counts.halve()
		t.seen = 1
	}
	e := t.counts.add(key)
	home := partitioners.Murmur2(key) & 0x7fffffff % n // as Kafka's DefaultPartitioner
	// Only what is surely the key's own counts: e.over was somebody else's.
	if total := float64(t.counts.total); total < warm/p.cfg.Share || float64(e.count-e.over) <= p.cfg.Share*total {
		return home
	}
	fan := min(uint32(p.cfg.Fanout), n)
	e.turn++
	return available(info, (home+e.turn%fan)%n, n)
}

// available is the partition, or the next one that can be reached; the partition itself
// when none can.
func available(info core.TopicInfo, partition, n uint32) uint32 {
	for i := range n {
		if at := (partition + i) % n; info.Partitions[at].Available {
			return at
		}
	}
	return partition
}
