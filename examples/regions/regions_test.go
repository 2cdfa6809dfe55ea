package main

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/sdk/plugintest"
)

var settings = map[string]string{"partitioner.regions": "eu=0-3,us=4-7,ap=8"}

func TestPlugin(t *testing.T) { plugintest.Run(t, plugintest.Options{Settings: settings}) }

func BenchmarkPlugin(b *testing.B) { plugintest.Benchmark(b, plugintest.Options{Settings: settings}) }

// TestPlaces holds that regions keep to their partitions, and that a key has one place.
func TestPlaces(t *testing.T) {
	t.Parallel()
	p, err := build(t.Context(), core.Env{}, config{Regions: []string{"eu=0-3", "us=4-7", "ap=8"}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int32]bool{}
	for i := range 1000 {
		for region, span := range map[string][2]int32{"eu": {0, 3}, "us": {4, 7}, "ap": {8, 8}, "xx": {0, 11}} {
			key := fmt.Appendf(nil, "%s:%d", region, i)
			got := p.PartitionKey(key, 12)
			if got < span[0] || got > span[1] {
				t.Fatalf("%s in partition %d", key, got)
			}
			seen[got] = true
		}
	}
	if len(seen) != 12 {
		t.Errorf("%d of 12 partitions are used", len(seen))
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "eu", "eu=", "eu=3-1", "=1", "eu=x-y", "eu=0-99999999"} {
		if err := (config{Regions: []string{bad}}).Validate(); err == nil {
			t.Errorf("partitioner.regions=%q was taken", bad)
		}
	}
}
