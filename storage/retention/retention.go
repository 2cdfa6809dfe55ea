// Package retention has the built-in retention policies: time-size, which decides by
// age and by size as Kafka does with retention.ms and retention.bytes, and consumed,
// which lets go of what every group has read.
package retention

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace/millrace/core"
)

// Name is how retention.policy picks TimeSize.
const Name = "time-size"

// All lists the policies of this package.
func All() ([]core.Factory[core.Retention], error) {
	f, err := core.Define(Name, "whole segments, by age (retention.ms) and by size (retention.bytes), as Kafka", struct{}{},
		func(context.Context, core.Env, struct{}) (core.Retention, error) { return TimeSize{}, nil })
	if err != nil {
		return nil, err
	}
	c, err := consumedFactory()
	if err != nil {
		return nil, err
	}
	return []core.Factory[core.Retention]{f, c}, nil
}

// TimeSize is Kafka's retention. It gives up whole segments, oldest first, up to
// the first one that it keeps:
//
//   - by size, as long as the log would still have at least retention.bytes
//     without the segment;
//   - by time, as long as the segment's highest timestamp is more than retention.ms
//     ago. A segment whose records have no timestamps is as old as its last append.
//
// A segment that reaches above the high watermark is kept, and so are those after
// it. The active segment goes like the others, except when it is empty; the new
// start is then the log's end, and the core rolls first. Topics without delete in
// their cleanup.policy are left alone. It has no state and is safe for concurrent
// use.
type TimeSize struct{}

// Decide implements core.Retention. It stops early with the context's error.
func (TimeSize) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	return each(ctx, logs, decide)
}

// IgnoresCommits implements core.IgnoresCommits.
func (TimeSize) IgnoresCommits() bool { return true }

// each makes a decision for each log for which decide moves the start up.
func each(ctx context.Context, logs []core.LogView, decide func(*core.LogView) (int64, string)) ([]core.Decision, error) {
	var decisions []core.Decision
	for i := range logs {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("retention after %d of %d logs: %w", i, len(logs), err)
		}
		if start, reason := decide(&logs[i]); start > logs[i].Start {
			decisions = append(decisions, core.Decision{TopicPartition: logs[i].TopicPartition, Start: start, Reason: reason})
		}
	}
	return decisions, nil
}

// decide is the new start of one log and why; the start is at most the old one
// where all is kept.
func decide(v *core.LogView) (start int64, reason string) {
	if !deletes(v.Config) {
		return 0, ""
	}
	// What lies wholly below the start is on its way out already, and Kafka deletes
	// it before it looks at size and time.
	first := 0
	for first < len(v.Segments)-1 && v.Segments[first+1].Base <= v.Start {
		first++
	}
	var reasons []string
	next := first
	if v.RetentionBytes >= 0 {
		if next = bySize(v, next); next > first {
			reasons = append(reasons, "retention.bytes")
		}
	}
	if v.RetentionTime >= 0 {
		before := next
		if next = byTime(v, next); next > before {
			reasons = append(reasons, "retention.ms")
		}
	}
	if next == first {
		return 0, ""
	}
	return upperBound(v, next-1), strings.Join(reasons, " and ")
}

// bySize is the first segment that is kept, from the one at next on.
func bySize(v *core.LogView, next int) int {
	surplus := -v.RetentionBytes
	for i := next; i < len(v.Segments); i++ {
		surplus += v.Segments[i].Bytes
	}
	for next < len(v.Segments) && deletable(v, next) && surplus >= v.Segments[next].Bytes {
		surplus -= v.Segments[next].Bytes
		next++
	}
	return next
}

// byTime is the first segment that is kept, from the one at next on.
func byTime(v *core.LogView, next int) int {
	now, keep := v.Now.UnixMilli(), v.RetentionTime.Milliseconds()
	for next < len(v.Segments) && deletable(v, next) {
		ms, known := latest(&v.Segments[next])
		if !known || now-ms <= keep {
			break
		}
		next++
	}
	return next
}

// deletable is false for a segment that reaches above the high watermark, and for
// an active one that is empty.
func deletable(v *core.LogView, i int) bool {
	if i == len(v.Segments)-1 && v.Segments[i].Bytes == 0 {
		return false
	}
	return v.HighWatermark >= upperBound(v, i)
}

// upperBound is the start of the log once segment i is gone.
func upperBound(v *core.LogView, i int) int64 {
	if i+1 < len(v.Segments) {
		return v.Segments[i+1].Base
	}
	return v.End
}

// latest is the time, in ms, that a segment's age counts from.
func latest(s *core.SegmentState) (ms int64, known bool) {
	if s.MaxTimestamp >= 0 {
		return s.MaxTimestamp, true
	}
	return s.Modified.UnixMilli(), !s.Modified.IsZero()
}

// deletes reads cleanup.policy, a list whose default is delete.
func deletes(config map[string]string) bool {
	policy, ok := config["cleanup.policy"]
	if !ok {
		return true
	}
	for p := range strings.SplitSeq(policy, ",") {
		if strings.TrimSpace(p) == "delete" {
			return true
		}
	}
	return false
}
