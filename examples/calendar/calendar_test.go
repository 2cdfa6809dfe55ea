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
		Settings:  map[string]string{"retention.calendar.days": "0", "retention.calendar.holidays": "01-01,2026-04-03"},
		Retention: retentiontest.Options{SegmentAligned: true, Independent: true},
	})
}

func BenchmarkPlugin(b *testing.B) { plugintest.Benchmark(b, plugintest.Options{}) }

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// TestDays: the newest record of the old segment was written at one time; whether it
// goes depends on the calendar at another.
func TestDays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, written, now string
		goes               bool
		topic              map[string]string
	}{
		{"in the week, on the last day", "2026-06-01T23:59:59Z", "2026-06-04T23:59:59Z", false, nil},         // Mon, Thu
		{"in the week, three days are over", "2026-06-01T23:59:59Z", "2026-06-05T00:00:00Z", true, nil},      // Tue to Thu
		{"over a weekend", "2026-06-04T12:00:00Z", "2026-06-09T23:59:59Z", false, nil},                       // Thu; Fri, Mon, Tue
		{"over a weekend, three days are over", "2026-06-04T12:00:00Z", "2026-06-10T00:00:00Z", true, nil},   // Wed
		{"over Good Friday", "2026-04-01T12:00:00Z", "2026-04-07T23:59:59Z", false, nil},                     // Wed; Thu, Mon, Tue
		{"over Good Friday, three days are over", "2026-04-01T12:00:00Z", "2026-04-08T00:00:00Z", true, nil}, //
		{"over New Year, which is every year's", "2026-12-30T12:00:00Z", "2027-01-05T23:59:59Z", false, nil}, // Wed; Thu, Mon, Tue
		{"over New Year, three days are over", "2026-12-30T12:00:00Z", "2027-01-06T00:00:00Z", true, nil},    //
		{"the topic keeps longer", "2026-06-01T12:00:00Z", "2026-06-05T00:00:00Z", false, map[string]string{daysSetting: "4"}},
		{"the topic keeps shorter", "2026-06-01T12:00:00Z", "2026-06-02T00:00:00Z", true, map[string]string{daysSetting: "0"}},
		{"the topic's days begin earlier", "2026-06-01T12:00:00Z", "2026-06-04T22:00:00Z", true, map[string]string{zoneSetting: "Europe/Berlin"}},
		{"and not yet", "2026-06-01T12:00:00Z", "2026-06-04T21:59:59Z", false, map[string]string{zoneSetting: "Europe/Berlin"}},
		{"the topic's zone is wrong", "2020-06-01T12:00:00Z", "2026-06-04T22:00:00Z", false, map[string]string{zoneSetting: "Atlantis"}},
		{"the topic's days are wrong", "2020-06-01T12:00:00Z", "2026-06-04T22:00:00Z", false, map[string]string{daysSetting: "-1"}},
		{"the topic is compacted", "2020-06-01T12:00:00Z", "2026-06-04T22:00:00Z", false, map[string]string{"cleanup.policy": "compact"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults()
			cfg.Days, cfg.Holidays = 3, []string{"01-01", "2026-04-03"}
			p, err := build(t.Context(), core.Env{}, cfg)
			if err != nil {
				t.Fatal(err)
			}
			now := at(t, c.now)
			v := core.LogView{
				TopicPartition: core.TopicPartition{Topic: "t"}, Config: c.topic, Now: now,
				End: 20, HighWatermark: 20,
				Segments: []core.SegmentState{
					{Base: 0, End: 10, Bytes: 100, MaxTimestamp: at(t, c.written).UnixMilli()},
					{Base: 10, End: 20, Bytes: 100, MaxTimestamp: now.UnixMilli()},
				},
			}
			got, err := p.Decide(t.Context(), []core.LogView{v})
			if err != nil {
				t.Fatal(err)
			}
			if goes := len(got) == 1 && got[0].Start == 10; goes != c.goes || len(got) == 1 != c.goes {
				t.Errorf("decided %v; it goes: want %v", got, c.goes)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, mistake := range map[string]func(*config){
		"days":    func(c *config) { c.Days = -1 },
		"many":    func(c *config) { c.Days = mostDays + 1 },
		"zone":    func(c *config) { c.Zone = "Atlantis" },
		"weekday": func(c *config) { c.Weekend = []string{"caturday"} },
		"no day": func(c *config) {
			c.Weekend = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
		},
		"date":     func(c *config) { c.Holidays = []string{"02-30"} },
		"day":      func(c *config) { c.Holidays = []string{"2026-13-01"} },
		"notation": func(c *config) { c.Holidays = []string{"1.1."} },
	} {
		c := defaults()
		mistake(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: %+v was taken", name, c)
		}
	}
	if err := defaults().Validate(); err != nil {
		t.Error(err)
	}
}
