package group_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group"
)

// modelTopic is the id of the topic that members of the consumer protocol read.
var modelTopic = core.TopicID{1, 2, 3}

// modern is what a consumer of KIP-848's protocol has beside that of the classic one. Its
// generation is the member epoch. It keeps what it is to keep through a rebalance,
// commits what it is to give up before it does, and says then that it has.
type modern struct {
	target map[int32]struct{} // what it is to own; nil: nothing has been said
	since  map[int32]int      // when it was given what it owns, as the model counts
	full   bool               // the next heartbeat says everything
	tries  int                // commits before it gives up partitions without
}

// given is the last consumer that was given a partition.
type given struct {
	to *consumer
	at int
}

func (m *model) spawnModern(c *consumer) {
	c.modern, c.group, c.instance = &modern{}, "k"+strconv.Itoa(m.rnd.IntN(2)), nil
}

// loseModern is lose for a member that was fenced: it keeps its id.
func (c *consumer) loseModern() {
	c.owned, c.dirty, c.phase, c.generation = nil, false, joins, 0
	c.modern = &modern{}
}

// joinModern is the first heartbeat.
func (c *consumer) joinModern() {
	if c.id == "" {
		c.id = c.name + "-" + strconv.FormatInt(c.m.ids.Add(1), 10)
	}
	c.generation = 0
	c.heartbeatModern(c.generation)
}

// consumeModern goes from what it owns to what it is to own, or consumes.
func (c *consumer) consumeModern() {
	k := c.modern
	if k.target != nil {
		if slices.ContainsFunc(slices.Collect(maps.Keys(c.owned)), func(p int32) bool { _, keep := k.target[p]; return !keep }) {
			if c.dirty && k.tries < 3 {
				k.tries++
				c.commit()
				return
			}
			maps.DeleteFunc(c.owned, func(p int32, _ int64) bool { _, keep := k.target[p]; return !keep })
			k.full = true
		}
		k.tries = 0
		for p := range k.target {
			if _, ok := c.owned[p]; !ok {
				c.owned[p] = -1
				c.phase, k.full = fetches, true
			}
		}
		k.target = nil
		if c.phase == fetches {
			return
		}
	}
	if k.full || time.Since(c.beat) >= 5*time.Second && (c.m.calm || c.m.rnd.IntN(4) > 0) {
		c.heartbeatModern(c.generation)
		return
	}
	c.poll()
}

// give notes who has a partition now.
func (m *model) give(c *consumer, p int32) int {
	m.gifts++
	if m.given[c.group] == nil {
		m.given[c.group] = map[int32]given{}
	}
	m.given[c.group][p] = given{c, m.gifts}
	m.note("%s is given partition %d of %s in epoch %d", c.name, p, c.group, c.generation)
	m.modernOwners++
	return m.gifts
}

func (c *consumer) heartbeatModern(epoch int32) {
	c.beat = time.Now()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, c.group, c.id, epoch
	if epoch == 0 || c.modern.full {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 20_000, []string{"topic"}
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if len(c.owned) > 0 {
			t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			t.TopicID, t.Partitions = modelTopic, slices.Sorted(maps.Keys(c.owned))
			req.Topics = append(req.Topics, t)
		}
	}
	claims, sent := maps.Clone(c.owned), c.m.gifts
	c.send(func(ctx context.Context) (func(), error) {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.Version = req.Version
		err := c.m.api.ConsumerGroupHeartbeat(ctx, group.Caller{ClientID: c.name, ClientHost: "/h"}, req, resp)
		return func() { c.toldModern(req, resp, claims, sent) }, err
	})
}

func (c *consumer) toldModern(req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse, claims map[int32]int64, sent int) {
	if resp.ErrorCode != 0 {
		c.failedModern(resp.ErrorCode)
		return
	}
	// Who is still a member has what nobody else was given since.
	for p := range claims {
		if g := c.m.given[c.group][p]; g.to != c && g.at > c.modern.since[p] && g.at <= sent {
			c.m.violation("partition %d of %s has two owners: %s was given it, %s has it and is a member in epoch %d", p, c.group, g.to.name, c.name, resp.MemberEpoch)
		}
	}
	if resp.MemberEpoch < req.MemberEpoch {
		c.m.violation("%s: epoch %d after %d", c.name, resp.MemberEpoch, req.MemberEpoch)
	}
	c.generation, c.modern.full = resp.MemberEpoch, false
	if c.phase == joins {
		c.owned, c.phase, c.modern.since = map[int32]int64{}, consumes, map[int32]int{}
	}
	if a := resp.Assignment; a != nil {
		c.modern.target = map[int32]struct{}{}
		for _, t := range a.Topics {
			for _, p := range t.Partitions {
				c.modern.target[p] = struct{}{}
				if _, has := c.owned[p]; !has {
					c.modern.since[p] = c.m.give(c, p)
				}
			}
		}
	}
}

func (c *consumer) failedModern(code int16) {
	switch code {
	case kerr.UnknownMemberID.Code, kerr.FencedMemberEpoch.Code:
		c.loseModern()
	case kerr.StaleMemberEpoch.Code:
		c.modern.full = true // a heartbeat tells the new one
	case kerr.GroupMaxSizeReached.Code:
		c.loseModern()
		c.dead = true
	case kerr.CoordinatorLoadInProgress.Code, kerr.CoordinatorNotAvailable.Code, kerr.NotCoordinator.Code:
		c.modern.full = true
	default:
		c.m.violation("%s: %v in phase %d", c.name, kerr.ErrorForCode(code), c.phase)
	}
}

// leaveModern is the heartbeat of epoch -1.
func (c *consumer) leaveModern() {
	c.owned = nil
	c.heartbeatModern(-1)
}

// TestACommitOnItsWayIsPending: what is not replicated yet is told to nobody, and who
// wants what is stable is asked to wait. The model has found why: a consumer whose
// connection breaks while its commit is on the way would go on from the one before, and
// commit backwards.
func TestACommitOnItsWayIsPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1)
		m.partitions = 1
		m.boot()
		defer m.current.Close()
		fetch := func(stable bool, want int64, code int16) {
			t.Helper()
			req := kmsg.NewOffsetFetchRequestGroup()
			req.Group = "g"
			req.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "topic", Partitions: []int32{0}}}
			resp := m.api.FetchOffsets(t.Context(), &req, stable)
			if p := resp.Topics[0].Partitions[0]; p.Offset != want || p.ErrorCode != code {
				t.Fatalf("fetched %d, %v; want %d, %v", p.Offset, kerr.ErrorForCode(p.ErrorCode), want, kerr.ErrorForCode(code))
			}
		}
		commit := func(offset int64) {
			resp := kmsg.NewPtrOffsetCommitResponse()
			if err := m.api.CommitOffsets(t.Context(), group.Caller{}, commitOf("g", "", -1, "topic", 0, offset), resp); err != nil || codeOf(resp) != 0 {
				t.Errorf("commit of %d: %v, code %d", offset, err, codeOf(resp))
			}
		}
		synctest.Wait()
		commit(10)
		fetch(true, 10, 0)
		m.log.trouble(false, 0)
		done := make(chan struct{})
		go func() { defer close(done); commit(20) }()
		synctest.Wait()
		fetch(false, 10, 0)
		fetch(true, -1, kerr.UnstableOffsetCommit.Code)
		m.log.replicate(m.rnd, true)
		<-done
		fetch(true, 20, 0)
	})
}
