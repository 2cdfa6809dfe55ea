package retention

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
)

// ConsumedName is how retention.policy picks Consumed.
const ConsumedName = "consumed"

// minSetting is the floor of Consumed; topics may have their own.
const minSetting = "retention.consumed.min.ms"

// Consumed makes a topic a queue that cleans up after itself: what every group that
// has committed offsets for the topic has read may go, up to the lowest committed
// offset of the partition, to the record.
//
// Between a floor and ceilings: a record is kept for retention.consumed.min.ms even
// when all have read it. The floor goes by segments, since a segment knows the time
// of its newest record alone: one that holds a younger record is kept whole, and a
// topic with a floor wants a segment.ms that fits it. retention.ms and
// retention.bytes are ceilings: what they give up goes whether it was read or not,
// as with TimeSize; they win over the floor. -1 there keeps what was not read for
// ever.
//
// A group that has committed for some partitions of the topic has read nothing of
// the others. A topic for which no group has committed loses nothing by use, only by
// the ceilings. While the commits of some group are not known, nothing goes at all.
//
// It has no state and is safe for concurrent use.
type Consumed struct {
	// MinTime is the floor for topics whose LogView.Config does not have it.
	MinTime time.Duration `setting:"retention.consumed.min.ms" scope:"topic" doc:"How long the policy consumed keeps a record after it was written, even when every group has read it, in ms. It goes by whole segments; see segment.ms."`
}

func consumedFactory() (core.Factory[core.Retention], error) {
	return core.Define(ConsumedName, "what every group that commits has read goes; retention.ms and retention.bytes are ceilings", Consumed{},
		func(_ context.Context, _ core.Env, cfg Consumed) (core.Retention, error) { return cfg, nil })
}

var errFloor = errors.New("retention.consumed.min.ms: want 0 or more")

// Validate refuses negative floors.
func (c Consumed) Validate() error {
	if c.MinTime < 0 {
		return errFloor
	}
	return nil
}

// Decide implements core.Retention. It stops early with the context's error.
func (c Consumed) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	return each(ctx, logs, c.decide)
}

func (c Consumed) decide(v *core.LogView) (start int64, reason string) {
	if !v.CommittedComplete || !deletes(v.Config) {
		return 0, ""
	}
	start, reason = decide(v)
	if read := c.above(v, lowest(v)); read > start {
		return read, "read by every group"
	}
	return start, reason
}

// lowest is the offset below which every group has read; -1 when there is no group.
func lowest(v *core.LogView) int64 {
	low := int64(-1)
	for _, offset := range v.Committed {
		if offset < 0 {
			return -1
		}
		if low < 0 || offset < low {
			low = offset
		}
	}
	return min(low, v.HighWatermark)
}

// above lowers a start to the first segment that the floor keeps.
func (c Consumed) above(v *core.LogView, start int64) int64 {
	floor := c.floor(v.Config)
	if floor <= 0 {
		return start
	}
	now := v.Now.UnixMilli()
	for i := range v.Segments {
		if v.Segments[i].Base >= start {
			break
		}
		if v.Segments[i].Bytes == 0 {
			continue
		}
		if ms, known := latest(&v.Segments[i]); !known || now-ms < floor {
			return v.Segments[i].Base
		}
	}
	return start
}

// floor is the topic's floor in ms.
func (c Consumed) floor(config map[string]string) int64 {
	if text, ok := config[minSetting]; ok {
		// The table of settings has let numbers pass only.
		if ms, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
			return ms
		}
	}
	return c.MinTime.Milliseconds()
}
