// Command regions is a plugin: a partitioner that keeps the records of a region
// together. A key is REGION:REST, and the settings give each region its partitions:
//
//	plugin.regions.path=/opt/millrace/plugins/regions
//	partitioner.regions=eu=0-3,us=4-7,ap=8-9
//
// A topic uses it with partitioner=regions. Within its region's partitions the hash of the
// whole key decides; keys of other regions go anywhere. What it does is a rule, so a
// broker asks the plugin once a topic, not once a batch.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/plugins/rule"
	"github.com/millrace/millrace/sdk/plugin"
)

func main() { plugin.Serve(options()...) }

func options() []plugin.Option {
	return []plugin.Option{
		plugin.Program("regions", "1.0.0"),
		plugin.Partitioner("regions", "keys REGION:REST to the partitions of their region", config{}, build),
	}
}

// config is the plugin's settings.
type config struct {
	Regions []string `setting:"partitioner.regions" doc:"REGION=FIRST-LAST, by commas: the partitions of each region."`
}

// Validate is called when the broker starts, so that a mistake shows there.
func (c config) Validate() error {
	_, err := c.parse()
	return err
}

var errNone = errors.New("partitioner.regions: name at least one region, as in eu=0-3,us=4-7")

func (c config) parse() (map[string][]uint32, error) {
	regions := map[string][]uint32{}
	for _, entry := range c.Regions {
		name, span, ok := strings.Cut(entry, "=")
		first, last, many := strings.Cut(span, "-")
		if !many {
			last = first
		}
		const bits = 31
		lo, err1 := strconv.ParseUint(first, 10, bits)
		hi, err2 := strconv.ParseUint(last, 10, bits)
		const most = 10_000
		if !ok || name == "" || err1 != nil || err2 != nil || hi < lo || hi-lo > most {
			return nil, fmt.Errorf("partitioner.regions: %q: want REGION=FIRST-LAST, as in eu=0-3", entry)
		}
		for n := lo; n <= hi; n++ {
			regions[name] = append(regions[name], uint32(n))
		}
	}
	if len(regions) == 0 {
		return nil, errNone
	}
	return regions, nil
}

// partitioner places by rule, and by the very same rule when it is asked.
type partitioner struct{ regions map[string][]uint32 }

func build(_ context.Context, _ core.Env, c config) (*partitioner, error) {
	regions, err := c.parse()
	return &partitioner{regions}, err
}

// rule is the rule for a topic with n partitions. Of a region's partitions those count
// that the topic has.
func (p *partitioner) rule(n int32) (*rule.Rule, error) {
	r := &rule.Rule{
		Part: rule.Before, Delimiter: ':',
		Others: rule.Places{All: true}, Keyless: rule.Places{All: true},
	}
	for name, all := range p.regions {
		var there []uint32
		for _, part := range all {
			if int64(part) < int64(n) {
				there = append(there, part)
			}
		}
		if len(there) > 0 {
			r.Entries = append(r.Entries, rule.Entry{Part: []byte(name), Places: rule.Places{Partitions: there}})
		}
	}
	return r, r.Prepare()
}

// Rule implements plugin.RulePublisher.
func (p *partitioner) Rule(_ context.Context, _ string, n int32) (*rule.Rule, time.Duration, error) {
	r, err := p.rule(n)
	return r, 0, err
}

// Partition implements core.Partitioner.
func (p *partitioner) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	n := int32(len(t.Partitions))
	r, err := p.rule(n)
	if err != nil {
		return err
	}
	for i := range records {
		out[i] = r.Place(records[i].Key, n)
	}
	return nil
}

// PartitionKey implements core.KeyOnly, so that the broker can guard a topic.
func (p *partitioner) PartitionKey(key []byte, n int32) int32 {
	r, err := p.rule(n)
	if err != nil {
		return rule.Undecided
	}
	return r.Place(key, n)
}
