// Command calendar is a plugin: a retention policy by business days. A record is kept
// until so many whole business days have gone by after the day it was written on, however
// many weekends and holidays lie between:
//
//	plugin.calendar.path=/opt/millrace/plugins/calendar
//	retention.calendar.days=5
//	retention.calendar.zone=Europe/Berlin
//	retention.calendar.weekend=saturday,sunday
//	retention.calendar.holidays=01-01,12-25,12-26,2026-04-03
//
// A topic uses it with retention.policy=calendar, and may have its own
// retention.calendar.days and retention.calendar.zone. retention.ms and retention.bytes are
// not looked at. It goes by whole segments, as retention.ms does: see segment.ms.
package main

import (
	"context"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones, where the system has none

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/sdk/plugin"
)

func main() { plugin.Serve(options()...) }

func options() []plugin.Option {
	return []plugin.Option{
		plugin.Program("calendar", "1.0.0"),
		plugin.Retention("calendar", "keeps records for a number of business days", defaults(), build),
	}
}

const (
	daysSetting = "retention.calendar.days"
	zoneSetting = "retention.calendar.zone"
)

// policy has no state beside its settings: what it answers depends on the logs and on
// LogView.Now alone.
type policy struct {
	days int
	zone *time.Location
	cal  calendar
	env  core.Env
}

func build(_ context.Context, env core.Env, c config) (*policy, error) {
	cal, zone, err := c.parse()
	return &policy{days: c.Days, zone: zone, cal: cal, env: env}, err
}

// Decide implements core.Retention.
func (p *policy) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	var out []core.Decision
	known := map[string]int64{} // bounds of this call: logs of a broker have few different ones
	for i := range logs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v := &logs[i]
		before, ok := p.bound(v, known)
		if !ok || !deletes(v.Config) {
			continue
		}
		if start := expired(v, before); start > v.Start {
			out = append(out, core.Decision{TopicPartition: v.TopicPartition, Start: start, Reason: daysSetting})
		}
	}
	return out, nil
}

// bound is the time, in ms, that a log's records must be older than to go. It is not
// there when the topic's settings make no sense: then nothing goes.
func (p *policy) bound(v *core.LogView, known map[string]int64) (int64, bool) {
	key := v.Config[daysSetting] + " " + v.Config[zoneSetting] + " " + strconv.FormatInt(v.Now.UnixMilli(), 10)
	if ms, ok := known[key]; ok {
		return ms, ms >= 0
	}
	ms, err := p.reckon(v)
	if err != nil {
		ms = -1
		if p.env.Log != nil {
			p.env.Log.Warn("the topic loses nothing until its settings are mended", "topic", v.Topic, "err", err)
		}
	}
	known[key] = ms
	return ms, ms >= 0
}

func (p *policy) reckon(v *core.LogView) (int64, error) {
	days, zone := p.days, p.zone
	if text, ok := v.Config[daysSetting]; ok {
		var err error
		if days, err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
			return 0, err
		}
		if err := checkDays(days); err != nil {
			return 0, err
		}
	}
	if text, ok := v.Config[zoneSetting]; ok {
		var err error
		if zone, err = time.LoadLocation(strings.TrimSpace(text)); err != nil {
			return 0, err
		}
	}
	return p.cal.back(v.Now.In(zone), days).UnixMilli(), nil
}

// expired is the offset after the last of the segments, from the oldest on, whose
// records are all older than the bound and below the high watermark.
func expired(v *core.LogView, before int64) int64 {
	start := v.Start
	for i := range v.Segments {
		s := &v.Segments[i]
		if s.End <= s.Base { // nothing has been written to it
			continue
		}
		newest := s.MaxTimestamp
		if newest < 0 { // format 0 has no timestamps
			newest = s.Modified.UnixMilli()
			if s.Modified.IsZero() {
				break
			}
		}
		if newest >= before || s.End > v.HighWatermark {
			break
		}
		start = s.End
	}
	return start
}

// deletes reads cleanup.policy, a list whose default is delete.
func deletes(config map[string]string) bool {
	list, ok := config["cleanup.policy"]
	return !ok || strings.Contains(list, "delete")
}
