package group

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/classic"
	"github.com/millrace/millrace/core/group/consumer"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/core/metadata"
)

// assignorsOf are the assignors of the settings, by their short names.
func assignorsOf(names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, name := range names {
		canonical, _, ok := assign.ByName(name)
		if !ok {
			return nil, fmt.Errorf("group.consumer.assignors: %q is not known; there are %s and %s: %w", name, assign.UniformName, assign.RangeName, core.ErrInvalidConfig)
		}
		out = append(out, canonical)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("group.consumer.assignors: at least one of %s and %s is needed: %w", assign.UniformName, assign.RangeName, core.ErrInvalidConfig)
	}
	return out, nil
}

// consumerSettings are those of the groups of a shard.
func (s *shard) consumerSettings() consumer.Settings {
	o := &s.c.o.Settings
	return consumer.Settings{
		MaxSize: o.Consumer.MaxSize, RegexRefresh: o.Consumer.RegexRefresh, Assignors: s.c.assignors, Downgrade: o.Consumer.Downgrade,
		ClassicMaxSize: o.MaxSize, Log: s.logger,
	}
}

// consumerEnv is what groups of the consumer protocol ask of their shard.
type consumerEnv struct{ c *Coordinator }

// Image implements consumer.Env.
func (e consumerEnv) Image() *metadata.Image { return e.c.o.Metadata.Current() }

// Times implements consumer.Env.
func (e consumerEnv) Times(group string) consumer.Times {
	g := e.c.o.Group(group)
	return consumer.Times{Session: g.Session, Heartbeat: g.Heartbeat}
}

// NewMemberID implements consumer.Env.
func (e consumerEnv) NewMemberID() string { return e.c.o.NewMemberID() }

// Rebalanced implements consumer.Env.
func (e consumerEnv) Rebalanced() { e.c.count.rebalances.Add(1) }

// apply appends what an operation of a group of the consumer protocol has made, and
// replays it. It answers what the client has to wait for: an answer that stores nothing
// may rest on what another one has. The lock is held.
func (s *shard) apply(now time.Time, g *group, out consumer.Outcome) (placed, error) {
	defer s.touched(g)
	if len(out.Records) == 0 {
		return s.unsettled(g), nil
	}
	p, err := s.write(now, out.Records...)
	if err != nil {
		s.logger.Warn("cannot store a group", "group", g.id, "error", err)
		return placed{}, err
	}
	g.last = p
	for _, r := range out.Records {
		g.stored = true
		g.replay(r)
	}
	if out.Downgrade != nil {
		s.newClassic(g, now)
		g.stored = true
		g.classic.Restore(classicOf(out.Downgrade), now)
	}
	return p, nil
}

// unsettled is the newest append of a group of the consumer protocol while it does not
// count yet. The lock is held.
func (s *shard) unsettled(g *group) placed {
	if g.last.wait <= s.hw() {
		g.last = placed{}
	}
	return g.last
}

// replay applies a record of the consumer protocol that is in the log.
func (g *group) replay(r schema.Record) {
	if g.consumer == nil {
		return
	}
	if g.consumer.Replay(r); g.consumer.Gone() {
		g.consumer, g.stored = nil, false
	}
}

// told waits until an append counts, and answers the code that the client is to see.
// failed is the error of the append itself.
func (s *shard) told(ctx context.Context, p placed, failed error) (code int16, err error) {
	if failed != nil {
		return deleteCode(errorCode(failed)), nil
	}
	code, err = s.replicated(ctx, p)
	return deleteCode(code), err
}

// tick does what is due in a group. The lock is held.
func (s *shard) tick(now time.Time, g *group) {
	switch {
	case g.consumer != nil:
		// What cannot be stored is tried again: the group sees to it.
		_, _ = s.apply(now, g, g.consumer.Tick(now))
	case g.classic != nil:
		g.classic.Tick(now)
	}
}

// searches are the regular expressions for whose topics a heartbeat would search. The lock
// is held.
func (s *shard) searches(now time.Time, req *kmsg.ConsumerGroupHeartbeatRequest) []string {
	if g := s.groups[req.Group]; g != nil && g.consumer != nil {
		return g.consumer.Searches(now, req)
	}
	return consumer.SearchesOf(req)
}

// heartbeat is ConsumerGroupHeartbeat, for which topics have been searched. The lock is
// held.
func (s *shard) heartbeat(
	now time.Time, caller Caller, found *consumer.Found, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse,
) (placed, error) {
	g := s.groups[req.Group]
	if g != nil && g.consumer != nil {
		g.consumer.Offer(found)
		return s.apply(now, g, g.consumer.Heartbeat(now, consumer.Caller(caller), req, resp))
	}
	if req.MemberEpoch != 0 {
		// It was a member of a group that is gone: it may join again.
		return placed{}, core.Failf(kerr.UnknownMemberID.Code, "Member %s is not a member of group %s.", req.MemberID, req.Group)
	}
	k, before, err := s.begin(now, g, req.Group)
	if err != nil {
		return placed{}, err
	}
	k.Offer(found)
	out := k.Heartbeat(now, consumer.Caller(caller), req, resp)
	if resp.ErrorCode != 0 {
		return placed{}, nil
	}
	p, err := s.write(now, append(before, out.Records...)...)
	if err != nil {
		s.logger.Warn("cannot store a group", "group", req.Group, "error", err)
		return placed{}, err
	}
	if g == nil {
		g = newGroup(req.Group)
		s.groups[g.id] = g
	}
	// Whoever waits in the classic group joins again, and finds this one.
	g.unload(kerr.RebalanceInProgress.Code)
	g.consumer, g.stored, g.last = k, true, p
	for _, r := range out.Records {
		g.replay(r)
	}
	s.touched(g)
	return p, nil
}

// begin makes a group of the consumer protocol in the place of g, which may be nil, with
// the records to be stored before its own. One of the classic protocol that has members
// is taken over with them.
func (s *shard) begin(now time.Time, g *group, id string) (*consumer.Group, []schema.Record, error) {
	settings, env := s.consumerSettings(), consumerEnv{s.c}
	if g != nil && !g.empty() {
		if !s.c.o.Settings.Consumer.Upgrade {
			return nil, nil, core.Failf(kerr.GroupIDNotFound.Code, "Group %s is not a consumer group.", id)
		}
		k, records, err := consumer.Upgrade(id, settings, env, handover(g.classic))
		if err != nil {
			return nil, nil, err
		}
		k.Loaded(now)
		s.logger.Info("a group goes on with the consumer protocol", "group", id, "members", k.Size())
		return k, records, nil
	}
	var before []schema.Record
	if g != nil && g.stored {
		before = append(before, &schema.GroupMetadata{Group: id})
	}
	return consumer.New(id, settings, env), before, nil
}

// handover is a classic group as it is taken over.
func handover(from *classic.Group) consumer.ClassicGroup {
	to := consumer.ClassicGroup{ProtocolType: from.ProtocolType(), Generation: from.Generation(), Protocol: from.Protocol()}
	for _, m := range from.Members() {
		cm := consumer.ClassicMember{
			ID: m.ID, InstanceID: m.InstanceID, ClientID: m.Caller.ClientID, ClientHost: m.Caller.ClientHost,
			RebalanceTimeout: int32(m.Rebalance.Milliseconds()), SessionTimeout: int32(m.Session.Milliseconds()), Assignment: m.Assignment,
		}
		for _, p := range m.Protocols {
			cm.Protocols = append(cm.Protocols, schema.ClassicProtocol{Name: p.Name, Metadata: p.Metadata})
		}
		to.Members = append(to.Members, cm)
	}
	return to
}

// joinConsumer is JoinGroup into a group of the consumer protocol. The lock is held.
func (s *shard) joinConsumer(now time.Time, caller Caller, g *group, req *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = req.Version
	fail := func(code int16) {
		*resp = kmsg.NewJoinGroupResponse()
		resp.Version, resp.ErrorCode, resp.Generation, resp.MemberID = req.Version, code, -1, req.MemberID
		reply(resp)
	}
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	if session < s.c.o.Settings.MinSession || session > s.c.o.Settings.MaxSession {
		fail(kerr.InvalidSessionTimeout.Code)
		return
	}
	p, err := s.apply(now, g, g.consumer.Join(now, consumer.Caller(caller), req, resp))
	if err != nil {
		fail(deleteCode(errorCode(err)))
		return
	}
	s.settled(now, p, func(_ time.Time, code int16) {
		if code != 0 {
			fail(deleteCode(code))
			return
		}
		reply(resp)
	})
}

// dropConsumer makes room for a classic group in the place of one of the consumer
// protocol that has no members. The lock is held.
func (s *shard) dropConsumer(now time.Time, g *group) (code int16) {
	_, err := s.apply(now, g, consumer.Outcome{Records: g.consumer.Tombstones()})
	if err != nil {
		return deleteCode(errorCode(err))
	}
	return 0
}

// consumer replays a record of a group of the consumer protocol.
func (l *loader) consumer(r schema.Record) {
	g := l.group(r.GroupID())
	if g.consumer == nil {
		g.consumer = consumer.New(g.id, l.s.consumerSettings(), consumerEnv{l.s.c})
	}
	g.stored = true
	g.replay(r)
}

// activateConsumer begins the sessions of a group that was loaded. The lock is held.
func (s *shard) activateConsumer(now time.Time, g *group) {
	switch {
	case g.consumer == nil:
	case g.consumer.Epoch() == 0 && g.consumer.Size() == 0:
		// Tombstones of a group whose last one compaction has taken already.
		g.consumer, g.stored = nil, g.classic != nil
	case g.classic != nil:
		// Both cannot be in a log that this coordinator, or Kafka's, has written.
		s.logger.Error("the log has a group of both protocols; that of the consumer protocol is left out", "group", g.id)
		g.consumer = nil
	default:
		g.consumer.Loaded(now)
		s.touched(g)
	}
}
