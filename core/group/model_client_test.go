package group_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group"
)

// consumer is a client of the classic protocol that does everything right: it commits
// only what it owns, under its generation, and gives its partitions up when it is told
// of a rebalance. It has one request under way at a time.
type consumer struct {
	m        *model
	name     string
	group    string
	instance *string
	modern   *modern // nil: it speaks the classic protocol
	version  int16   // of JoinGroup
	metadata []byte
	session  time.Duration

	id         string
	generation int32
	leads      bool
	members    []kmsg.JoinGroupResponseMember
	phase      phase
	owned      map[int32]int64 // positions
	dirty      bool            // there is something to commit
	dead       bool
	beat       time.Time // when it has last sent a heartbeat
	stalled    int       // steps for which the process does not run

	call *modelCall
}

// phase is what a consumer does next.
type phase uint8

const (
	joins phase = iota
	syncs
	fetches
	consumes
)

// modelCall is a request under way. The director looks at it when nothing runs.
type modelCall struct {
	cancel context.CancelFunc
	over   chan func() // what the reply means; nil if there was none
	lost   bool        // the reply will not arrive
}

// send runs a request in a goroutine of its own. It returns what the reply means.
func (c *consumer) send(request func(ctx context.Context) (reply func(), err error)) {
	ctx, cancel := context.WithCancel(context.Background())
	call := &modelCall{cancel: cancel, over: make(chan func(), 1)}
	c.call = call
	c.m.wg.Go(func() {
		defer cancel()
		reply, err := request(ctx)
		if err != nil {
			reply = nil
		}
		call.over <- reply
	})
}

// receive takes a reply in, if there is one.
func (c *consumer) receive() {
	if c.call == nil {
		return
	}
	select {
	case reply := <-c.call.over:
		lost := c.call.lost
		c.call = nil
		if reply != nil && !lost && !c.dead {
			reply()
		} else {
			c.unanswered()
		}
	default:
	}
}

// unanswered is what a consumer does when its connection has broken: it asks again.
func (c *consumer) unanswered() {
	if c.modern != nil {
		c.modern.full = true
		return
	}
	if c.phase == syncs || c.phase == joins {
		c.phase = joins
	}
}

// step sends the next request, if none is under way.
func (c *consumer) step() {
	if c.call != nil || c.dead {
		return
	}
	switch c.phase {
	case joins:
		if c.modern != nil {
			c.joinModern()
			return
		}
		c.join()
	case syncs:
		c.sync()
	case fetches:
		c.fetch()
	case consumes:
		if c.modern != nil {
			c.consumeModern()
			return
		}
		c.consume()
	}
}

// lose gives up what it owns and joins anew; with forget also who it was.
func (c *consumer) lose(forget bool) {
	if c.modern != nil {
		c.loseModern()
		return
	}
	c.owned, c.dirty, c.phase = nil, false, joins
	if forget {
		c.id = ""
	}
}

// failed does what a client does about an error code.
func (c *consumer) failed(code int16) {
	if c.modern != nil {
		c.failedModern(code)
		return
	}
	switch code {
	case kerr.UnknownMemberID.Code:
		c.lose(true)
	case kerr.IllegalGeneration.Code, kerr.RebalanceInProgress.Code:
		c.lose(false)
	case kerr.FencedInstanceID.Code, kerr.GroupMaxSizeReached.Code:
		c.lose(true)
		c.dead = true
	case kerr.CoordinatorLoadInProgress.Code, kerr.CoordinatorNotAvailable.Code, kerr.NotCoordinator.Code:
		if c.phase == syncs {
			c.phase = joins
		}
	default:
		c.m.violation("%s: %v in phase %d", c.name, kerr.ErrorForCode(code), c.phase)
	}
}

func (c *consumer) join() {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID = c.version, c.group, c.id, c.instance
	req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "consumer", int32(c.session.Milliseconds()), 20_000
	for _, name := range []string{"range", "other"} {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, slices.Clone(c.metadata)
		req.Protocols = append(req.Protocols, p)
	}
	c.send(func(ctx context.Context) (func(), error) {
		resp := kmsg.NewPtrJoinGroupResponse()
		err := c.m.api.JoinGroup(ctx, group.Caller{ClientID: c.name, ClientHost: "/h"}, req, resp)
		return func() { c.joined(resp) }, err
	})
}

func (c *consumer) joined(resp *kmsg.JoinGroupResponse) {
	switch resp.ErrorCode {
	case 0:
		c.id, c.generation, c.members, c.phase = resp.MemberID, resp.Generation, resp.Members, syncs
		c.leads = resp.LeaderID == resp.MemberID && !resp.SkipAssignment
		if c.leads && len(c.members) == 0 {
			c.m.violation("%s leads generation %d and knows no members", c.name, c.generation)
		}
	case kerr.MemberIDRequired.Code:
		c.id = resp.MemberID
	default:
		c.failed(resp.ErrorCode)
	}
}

// sync asks for the assignment. A leader deals the partitions out at random, so that two
// assignments of one generation would differ.
func (c *consumer) sync() {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 5, c.group, c.id, c.instance, c.generation
	if c.leads {
		dealt := make([][]byte, len(c.members))
		for p := range c.m.partitions {
			to := c.m.rnd.IntN(len(dealt))
			dealt[to] = binary.BigEndian.AppendUint32(dealt[to], uint32(p))
		}
		for i := range c.members {
			a := kmsg.NewSyncGroupRequestGroupAssignment()
			a.MemberID, a.MemberAssignment = c.members[i].MemberID, dealt[i]
			req.GroupAssignment = append(req.GroupAssignment, a)
		}
	}
	c.send(func(ctx context.Context) (func(), error) {
		resp := kmsg.NewPtrSyncGroupResponse()
		err := c.m.api.SyncGroup(ctx, group.Caller{}, req, resp)
		return func() { c.assigned(resp) }, err
	})
}

func (c *consumer) assigned(resp *kmsg.SyncGroupResponse) {
	if resp.ErrorCode != 0 {
		c.failed(resp.ErrorCode)
		return
	}
	c.owned, c.phase = map[int32]int64{}, fetches
	for b := resp.MemberAssignment; len(b) > 0; b = b[4:] {
		c.owned[int32(binary.BigEndian.Uint32(b))] = -1
	}
	if len(c.owned) == 0 {
		c.phase = consumes
	}
	c.m.assigned(c)
}

func (c *consumer) fetch() {
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group = c.group
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic = "topic"
	for p := range c.owned {
		t.Partitions = append(t.Partitions, p)
	}
	slices.Sort(t.Partitions)
	req.Topics = append(req.Topics, t)
	floor := c.m.acknowledged(c.group)
	c.send(func(ctx context.Context) (func(), error) {
		resp := c.m.api.FetchOffsets(ctx, &req, true)
		return func() { c.fetched(&resp, floor) }, nil
	})
}

func (c *consumer) fetched(resp *kmsg.OffsetFetchResponseGroup, floor map[int32]int64) {
	if resp.ErrorCode != 0 {
		c.failed(resp.ErrorCode)
		return
	}
	for _, p := range c.m.checkFetched(c.name, c.group, resp, floor) {
		if at, ok := c.owned[p.Partition]; ok && at < 0 {
			c.owned[p.Partition] = max(p.Offset, 0)
		}
	}
	for _, at := range c.owned {
		if at < 0 {
			return // it asks again
		}
	}
	c.phase = consumes
}

// consume polls, commits or heartbeats.
func (c *consumer) consume() {
	now := time.Now()
	if now.Sub(c.beat) >= 3*time.Second && (c.m.calm || c.m.rnd.IntN(4) > 0) { // there is another thread that polls and commits
		c.beat = now
		c.heartbeat()
		return
	}
	c.poll()
}

// poll gets on with what it owns, and commits now and then.
func (c *consumer) poll() {
	for p := range c.m.partitions {
		if at, ok := c.owned[p]; ok && c.m.rnd.IntN(2) == 0 {
			c.owned[p] = at + 1 + c.m.rnd.Int64N(9)
			c.dirty = true
		}
	}
	if c.dirty && c.m.rnd.IntN(2) == 0 {
		c.commit()
	}
}

func (c *consumer) heartbeat() {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, c.group, c.id, c.instance, c.generation
	newest := c.m.newest[c.group]
	c.send(func(ctx context.Context) (func(), error) {
		resp := kmsg.NewPtrHeartbeatResponse()
		err := c.m.api.Heartbeat(ctx, group.Caller{}, req, resp)
		return func() {
			if resp.ErrorCode != 0 {
				c.failed(resp.ErrorCode)
			} else if req.Generation < newest && !c.m.loading() {
				c.m.violation("%s: a heartbeat of generation %d is good, when %d was assigned", c.name, req.Generation, newest)
			}
		}, err
	})
}

func (c *consumer) commit() {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 8, c.group, c.id, c.instance, c.generation
	if c.modern != nil {
		req.Version = 9
	}
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = "topic"
	for p := range c.m.partitions {
		if at := c.owned[p]; at > 0 {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset = p, at
			t.Partitions = append(t.Partitions, rp)
		}
	}
	req.Topics = append(req.Topics, t)
	floor, newest := c.m.acknowledged(c.group), c.m.newest[c.group]
	c.m.sent(c.group, &t)
	c.send(func(ctx context.Context) (func(), error) {
		resp := kmsg.NewPtrOffsetCommitResponse()
		err := c.m.api.CommitOffsets(ctx, group.Caller{}, req, resp)
		return func() { c.committed(req, resp, floor, newest) }, err
	})
}

func (c *consumer) committed(req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, floor map[int32]int64, newest int32) {
	var failed int16
	for i, p := range resp.Topics[0].Partitions {
		at := req.Topics[0].Partitions[i].Offset
		switch {
		case p.ErrorCode != 0:
			failed = p.ErrorCode
		case req.Generation < newest:
			c.m.violation("%s: a commit of generation %d is good, when %d was assigned", c.name, req.Generation, newest)
		case at < floor[p.Partition]:
			c.m.violation("%s: partition %d goes back to %d, %d was committed", c.name, p.Partition, at, floor[p.Partition])
		default:
			c.m.acks++
			acked := c.m.acked[c.group]
			acked[p.Partition] = max(acked[p.Partition], at)
		}
	}
	if failed != 0 {
		c.failed(failed)
	} else {
		c.dirty = false
	}
}

// leave says good-bye and is gone.
func (c *consumer) leave() {
	if c.id == "" || c.call != nil {
		c.dead = true
		return
	}
	if c.modern != nil {
		c.leaveModern()
		c.dead = true
		return
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 4, c.group
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = c.id, c.instance
	req.Members = append(req.Members, m)
	c.dead = true
	c.send(func(ctx context.Context) (func(), error) {
		err := c.m.api.LeaveGroup(ctx, group.Caller{}, req, kmsg.NewPtrLeaveGroupResponse())
		return nil, err
	})
}

// owner is who owns what the consumer is assigned: for a static member the instance.
func (c *consumer) owner() string {
	if c.instance != nil {
		return "instance " + *c.instance
	}
	return fmt.Sprintf("%s as %s", c.name, c.id)
}
