package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// strategy is how reset-offsets finds new offsets: one of its flags.
type strategy struct {
	kind          string
	offset, shift int64
	ms            int64 // of to-datetime and by-duration
}

// bounds are what the logs have.
type bounds struct{ starts, ends, since kadm.ListedOffsets }

// bounds looks up what the strategy needs.
func (s strategy) bounds(ctx context.Context, adm *kadm.Client, scope kadm.TopicsSet) (b bounds, err error) {
	topics := scope.Topics()
	if b.starts, err = adm.ListStartOffsets(ctx, topics...); err != nil {
		return b, fmt.Errorf("find where the logs begin: %w", err)
	}
	if b.ends, err = adm.ListEndOffsets(ctx, topics...); err != nil {
		return b, fmt.Errorf("find where the logs end: %w", err)
	}
	if s.kind == "to-datetime" || s.kind == "by-duration" {
		if b.since, err = adm.ListOffsetsAfterMilli(ctx, s.ms, topics...); err != nil {
			return b, fmt.Errorf("find the time in the logs: %w", err)
		}
	}
	return b, nil
}

var errNotCommitted = errors.New("nothing is committed, so there is nothing to shift: use another strategy for it")

// target is the new offset of a partition, within what its log has; clamped says so
// when that is not what was asked for.
func (s strategy) target(b bounds, topic string, p int32, old, want int64) (to int64, clamped string, err error) {
	start, ok := b.starts.Lookup(topic, p)
	end, also := b.ends.Lookup(topic, p)
	err = errors.Join(start.Err, end.Err)
	if err == nil && (!ok || !also) {
		err = errLeftOut
	}
	if err != nil {
		return 0, "", fmt.Errorf("its leader does not say what it has: %w", err)
	}
	switch s.kind {
	case "to-earliest":
		return start.Offset, "", nil
	case "to-latest":
		return end.Offset, "", nil
	case "to-current":
		if old < 0 {
			return end.Offset, "", nil
		}
		to = old
	case "to-offset":
		to = s.offset
	case "shift-by":
		if old < 0 {
			return 0, "", errNotCommitted
		}
		to = old + s.shift
	case "from-file":
		to = want
	default: // a time
		if o, ok := b.since.Lookup(topic, p); ok && o.Err == nil && o.Offset >= 0 {
			return o.Offset, "", nil
		}
		return end.Offset, "", nil
	}
	switch {
	case to < start.Offset:
		return start.Offset, fmt.Sprintf("offset %d is below the first one, %d, which is used", to, start.Offset), nil
	case to > end.Offset:
		return end.Offset, fmt.Sprintf("offset %d is beyond the end, %d, which is used", to, end.Offset), nil
	}
	return to, "", nil
}

// parseDatetime reads ms since 1970 or RFC 3339; without a zone it is UTC, as in
// Kafka's tool.
func parseDatetime(s string) (int64, error) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 {
		return ms, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && t.UnixMilli() >= 0 {
			return t.UnixMilli(), nil
		}
	}
	return 0, usagef("--to-datetime %s: want 2006-01-02T15:04:05.000, with a zone such as Z or +01:00 or in UTC, or ms since 1970", s)
}

// parseDuration reads ISO 8601 up to days, as Kafka's tool, or Go's notation.
func parseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return d, nil
	}
	m := regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`).FindStringSubmatch(strings.ToUpper(s))
	if m == nil || strings.Join(m[1:], "") == "" {
		return 0, usagef("--by-duration %s: want P1DT2H30M or 26h30m", s)
	}
	var total float64
	for i, unit := range []float64{86400, 3600, 60, 1} {
		if m[i+1] != "" {
			n, err := strconv.ParseFloat(m[i+1], 64)
			if err != nil {
				return 0, usagef("--by-duration %s: %w", s, err)
			}
			total += n * unit
		}
	}
	if total > math.MaxInt64/float64(time.Second) {
		return 0, usagef("--by-duration %s is longer than 292 years", s)
	}
	return time.Duration(total * float64(time.Second)), nil
}
