package remote

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// retentionServer serves retention policies.
type retentionServer struct {
	pb.UnimplementedRetentionServer
	shelf *shelf[core.Retention]
}

// Decide implements pb.RetentionServer.
func (s *retentionServer) Decide(ctx context.Context, req *pb.DecideRequest) (*pb.DecideReply, error) {
	policy, err := s.shelf.get(req.Component)
	if err != nil {
		return nil, err
	}
	logs := make([]core.LogView, len(req.Logs))
	at := make(map[core.TopicPartition]uint32, len(logs))
	now := time.UnixMilli(req.NowMs)
	for i, v := range req.Logs {
		if err := view(v, req.Configs, &logs[i]); err != nil {
			return nil, err
		}
		logs[i].Now = now
		at[logs[i].TopicPartition] = uint32(i)
	}
	decisions, err := policy.Decide(ctx, logs)
	if err != nil {
		return nil, toStatus(err)
	}
	reply := &pb.DecideReply{Decisions: make([]*pb.Decision, 0, len(decisions))}
	for _, d := range decisions {
		i, ok := at[d.TopicPartition]
		if !ok {
			return nil, status.Errorf(codes.Internal, "the policy %q decided about %s, of which it was not asked", req.Component, d.TopicPartition)
		}
		reply.Decisions = append(reply.Decisions, &pb.Decision{Log: i, Start: d.Start, Reason: d.Reason})
	}
	return reply, nil
}

// view brings a log back from columns.
func view(v *pb.LogView, configs []*pb.TopicConfig, out *core.LogView) error {
	n := len(v.SegmentBase)
	for _, column := range [][]int64{
		v.SegmentEnd, v.SegmentBytes, v.SegmentFirstTimestamp, v.SegmentMaxTimestamp, v.SegmentModifiedMs, v.SegmentMaxTimestampOffset,
	} {
		if len(column) != n {
			return status.Errorf(codes.InvalidArgument, "the columns of the segments of %s-%d differ in length", v.Topic, v.Partition)
		}
	}
	if int64(v.Config) >= int64(len(configs)) {
		return status.Errorf(codes.InvalidArgument, "%s-%d names configuration %d of %d", v.Topic, v.Partition, v.Config, len(configs))
	}
	cfg := configs[v.Config]
	*out = core.LogView{
		TopicPartition: core.TopicPartition{Topic: v.Topic, Partition: v.Partition},
		Config:         cfg.Config, RetentionBytes: cfg.RetentionBytes, RetentionTime: duration(cfg.RetentionMs),
		Start: v.Start, End: v.End, HighWatermark: v.HighWatermark, Segments: make([]core.SegmentState, n),
		Committed: v.Committed, CommittedComplete: v.CommittedComplete,
	}
	for i := range out.Segments {
		s := &out.Segments[i]
		s.Base, s.End, s.Bytes = v.SegmentBase[i], v.SegmentEnd[i], v.SegmentBytes[i]
		s.FirstTimestamp, s.MaxTimestamp, s.MaxTimestampOffset = v.SegmentFirstTimestamp[i], v.SegmentMaxTimestamp[i], v.SegmentMaxTimestampOffset[i]
		if ms := v.SegmentModifiedMs[i]; ms != 0 {
			s.Modified = time.UnixMilli(ms)
		}
	}
	return nil
}

// duration is a bound in ms; what a Duration cannot hold is the longest one.
func duration(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	switch {
	case ms < 0:
		return -1
	case ms > most:
		return 1<<63 - 1
	default:
		return time.Duration(ms) * time.Millisecond
	}
}
