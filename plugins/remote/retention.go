package remote

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// RetentionOptions are what NewRetention takes.
type RetentionOptions struct {
	Link         Link
	Component    string
	Capabilities []Capability
	// Fallback decides when the plugin cannot be asked. nil is none: Decide fails, and
	// the broker deletes nothing until it is asked again.
	Fallback core.Retention
}

// retention asks a plugin.
type retention struct {
	o         RetentionOptions
	name      Name
	committed bool
}

// NewRetention makes the client of a retention policy. All logs go in one call. It is
// safe for concurrent use. A decision for a log that was not asked about, and two
// different ones for one log, are ErrNonsense, and then none is followed; one that goes past a high watermark is not
// followed either.
func NewRetention(o RetentionOptions) core.Retention {
	return &retention{
		o: o, name: Name{pb.Seam_SEAM_RETENTION, o.Component},
		committed: slices.Contains(o.Capabilities, Committed),
	}
}

// IgnoresCommits implements core.IgnoresCommits.
func (r *retention) IgnoresCommits() bool { return !r.committed }

// Decide implements core.Retention.
func (r *retention) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	if len(logs) == 0 {
		return nil, nil
	}
	req := r.request(logs)
	var decisions []core.Decision
	err := r.o.Link.Call(ctx, r.name, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		reply, err := pb.NewRetentionClient(conn).Decide(ctx, req)
		if err != nil {
			return err
		}
		decisions, err = r.take(reply, logs)
		return err
	})
	if err == nil {
		return decisions, nil
	}
	if r.o.Fallback == nil || ctx.Err() != nil {
		return nil, fmt.Errorf("ask the plugin's %s about %d logs: %w", r.name, len(logs), err)
	}
	r.o.Link.FellBack(r.name, err)
	return r.o.Fallback.Decide(ctx, logs)
}

// request brings the logs into columns. Topics that share a configuration share it on
// the wire too: the core hands out one map for all partitions of a topic.
func (r *retention) request(logs []core.LogView) *pb.DecideRequest {
	req := &pb.DecideRequest{Component: r.o.Component, NowMs: logs[0].Now.UnixMilli(), Logs: make([]*pb.LogView, len(logs))}
	type configKey struct {
		topic string
		bytes int64
		time  time.Duration
	}
	configs := map[configKey]uint32{}
	views := make([]pb.LogView, len(logs)) // one allocation for all
	for i := range logs {
		l := &logs[i]
		key := configKey{l.Topic, l.RetentionBytes, l.RetentionTime}
		at, ok := configs[key]
		if !ok || !maps.Equal(req.Configs[at].Config, l.Config) {
			at = uint32(len(req.Configs))
			configs[key] = at
			req.Configs = append(req.Configs, &pb.TopicConfig{
				Config: l.Config, RetentionBytes: l.RetentionBytes, RetentionMs: milliseconds(l.RetentionTime),
			})
		}
		v := &views[i]
		v.Topic, v.Partition, v.Config = l.Topic, l.Partition, at
		v.Start, v.End, v.HighWatermark = l.Start, l.End, l.HighWatermark
		segments(v, l.Segments)
		if r.committed {
			v.Committed, v.CommittedComplete = l.Committed, l.CommittedComplete
		}
		req.Logs[i] = v
	}
	return req
}

// milliseconds keeps "no bound" negative.
func milliseconds(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

func segments(v *pb.LogView, segs []core.SegmentState) {
	const columns = 7
	all := make([]int64, 0, columns*len(segs))
	column := func(of func(s *core.SegmentState) int64) []int64 {
		at := len(all)
		for i := range segs {
			all = append(all, of(&segs[i]))
		}
		return all[at:len(all):len(all)]
	}
	v.SegmentBase = column(func(s *core.SegmentState) int64 { return s.Base })
	v.SegmentEnd = column(func(s *core.SegmentState) int64 { return s.End })
	v.SegmentBytes = column(func(s *core.SegmentState) int64 { return s.Bytes })
	v.SegmentFirstTimestamp = column(func(s *core.SegmentState) int64 { return s.FirstTimestamp })
	v.SegmentMaxTimestamp = column(func(s *core.SegmentState) int64 { return s.MaxTimestamp })
	v.SegmentMaxTimestampOffset = column(func(s *core.SegmentState) int64 { return s.MaxTimestampOffset })
	v.SegmentModifiedMs = column(func(s *core.SegmentState) int64 {
		if s.Modified.IsZero() {
			return 0
		}
		return s.Modified.UnixMilli()
	})
}

// take checks an answer.
func (r *retention) take(reply *pb.DecideReply, logs []core.LogView) ([]core.Decision, error) {
	out := make([]core.Decision, 0, len(reply.Decisions))
	starts := make(map[uint32]int64, len(reply.Decisions))
	for _, d := range reply.Decisions {
		if int64(d.GetLog()) >= int64(len(logs)) {
			err := fmt.Errorf("%w: a decision about log %d of %d", ErrNonsense, d.GetLog(), len(logs))
			r.o.Link.Lied(r.name, err)
			return nil, err
		}
		l := &logs[d.GetLog()]
		if start, twice := starts[d.GetLog()]; twice && start != d.GetStart() {
			err := fmt.Errorf("%w: %s is to begin at %d and at %d", ErrNonsense, l.TopicPartition, start, d.GetStart())
			r.o.Link.Lied(r.name, err)
			return nil, err
		}
		starts[d.GetLog()] = d.GetStart()
		if d.GetStart() > l.HighWatermark {
			// The core would clamp it, and delete all that there is: a policy that knows so
			// little of the log is not to decide that.
			r.o.Link.Lied(r.name, fmt.Errorf("%w: %s is to begin at %d, past its high watermark %d",
				ErrNonsense, l.TopicPartition, d.GetStart(), l.HighWatermark))
			continue
		}
		out = append(out, core.Decision{TopicPartition: l.TopicPartition, Start: d.GetStart(), Reason: d.GetReason()})
	}
	return out, nil
}
