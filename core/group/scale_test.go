package group_test

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// fleet is a large group: members that do what consumers do, each on a connection of
// its own, and no more than that.
type fleet struct {
	t          testing.TB
	b          *brokertest.Broker
	partitions int32
	members    []*sailor
}

type sailor struct {
	*wire
	f          *fleet
	id         string
	generation int32
	owned      []int32
}

func newFleet(t testing.TB, members int, partitions int32) *fleet {
	f := &fleet{t: t, partitions: partitions, b: brokertest.Start(t,
		broker.WithSetting("offsets.topic.num.partitions", "1"),
		broker.WithSetting("group.initial.rebalance.delay.ms", "1000"))}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	for range members {
		f.members = append(f.members, &sailor{wire: dial(ctx, t, f.b), f: f})
	}
	createTopic(t, f.members[0].wire, "wide", partitions)
	f.members[0].enterGroup("warm", "", nil, subscribed("wide")) // the coordinator is there
	return f
}

// all has every member do something at once.
func (f *fleet) all(do func(*sailor) error) {
	f.t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for _, m := range f.members {
		wg.Go(func() {
			if err := do(m); err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		f.t.Fatal(*err)
	}
}

// join joins, asks for the assignment, and begins again until all are in one generation.
func (m *sailor) join() error {
	for {
		resp, err := m.roundTrip(joinOf("fleet", m.id, nil, subscribed("wide")))
		if err != nil {
			return err
		}
		joined := resp.(*kmsg.JoinGroupResponse) //nolint:forcetypeassert // it answers that
		if m.id = joined.MemberID; joined.ErrorCode == kerr.MemberIDRequired.Code {
			continue
		}
		if joined.ErrorCode != 0 {
			return fmt.Errorf("join: %w", kerr.ErrorForCode(joined.ErrorCode))
		}
		m.generation = joined.Generation
		req := syncOf("fleet", m.id, m.generation)
		m.f.deal(req, joined.Members)
		if resp, err = m.roundTrip(req); err != nil {
			return err
		}
		synced := resp.(*kmsg.SyncGroupResponse) //nolint:forcetypeassert // it answers that
		if synced.ErrorCode == kerr.RebalanceInProgress.Code {
			continue
		}
		if synced.ErrorCode != 0 {
			return fmt.Errorf("sync: %w", kerr.ErrorForCode(synced.ErrorCode))
		}
		var a kmsg.ConsumerMemberAssignment
		if err := a.ReadFrom(synced.MemberAssignment); err != nil {
			return fmt.Errorf("assignment: %w", err)
		}
		m.owned = a.Topics[0].Partitions
		if string(a.UserData) == fmt.Sprint(len(m.f.members)) {
			return nil
		}
		if err := m.untilRebalance(); err != nil {
			return err
		}
	}
}

// deal assigns ranges; the user data says how many members the leader knows.
func (f *fleet) deal(req *kmsg.SyncGroupRequest, members []kmsg.JoinGroupResponseMember) {
	slices.SortFunc(members, func(a, b kmsg.JoinGroupResponseMember) int { return cmp.Compare(a.MemberID, b.MemberID) })
	n := int32(len(members))
	for i := range n {
		a := kmsg.NewConsumerMemberAssignment()
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic = "wide"
		for p := i * f.partitions / n; p < (i+1)*f.partitions/n; p++ {
			t.Partitions = append(t.Partitions, p)
		}
		a.Topics = append(a.Topics, t)
		a.UserData = fmt.Append(nil, n)
		assignTo(req, members[i].MemberID, a.AppendTo(nil))
	}
}

func (m *sailor) beat() (int16, error) {
	resp, err := m.roundTrip(beatOf("fleet", m.id, m.generation))
	if err != nil {
		return 0, err
	}
	return codeOf(resp), nil
}

func (m *sailor) steady() error {
	code, err := m.beat()
	if err == nil && code != 0 {
		err = fmt.Errorf("heartbeat: %w", kerr.ErrorForCode(code))
	}
	return err
}

func (m *sailor) untilRebalance() error {
	for {
		code, err := m.beat()
		switch {
		case err != nil || code == kerr.RebalanceInProgress.Code:
			return err
		case code != 0:
			return fmt.Errorf("heartbeat: %w", kerr.ErrorForCode(code))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// replaceOne has the last member leave and a new one come; the others learn of it from
// their heartbeats, and all join again.
func (f *fleet) replaceOne(told bool) {
	f.t.Helper()
	last := f.members[len(f.members)-1]
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.Group = 5, "fleet"
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = last.id
	leave.Members = append(leave.Members, m)
	if code := codeOf(ask[*kmsg.LeaveGroupResponse](last.wire, leave)); code != 0 {
		f.t.Fatal(kerr.ErrorForCode(code))
	}
	last.id = ""
	// It has its id before the others join, so that one rebalance is enough.
	last.id = ask[*kmsg.JoinGroupResponse](last.wire, joinOf("fleet", "", nil, subscribed("wide"))).MemberID
	f.all(func(m *sailor) error {
		if told && m != last {
			if err := m.untilRebalance(); err != nil {
				return err
			}
		}
		return m.join()
	})
}

// checkOwners checks that every partition has one owner and all are of one generation.
func (f *fleet) checkOwners() {
	f.t.Helper()
	owner := map[int32]int{}
	for i, m := range f.members {
		if m.generation != f.members[0].generation {
			f.t.Fatalf("member %d is of generation %d, the first of %d", i, m.generation, f.members[0].generation)
		}
		for _, p := range m.owned {
			if other, ok := owner[p]; ok {
				f.t.Fatalf("partition %d has owners %d and %d", p, other, i)
			}
			owner[p] = i
		}
	}
	if len(owner) != int(f.partitions) {
		f.t.Fatalf("%d of %d partitions have owners", len(owner), f.partitions)
	}
}

func allocated() (held, total uint64) {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc, s.TotalAlloc
}

// TestAThousandMembersRebalance forms a group of 1,000 members over 1,000 partitions and
// rebalances it. What that takes grows with the members, not with their square: the
// bounds on memory hold the clients' part too. It measures what the process allocates, so
// it does not run beside others.
func TestAThousandMembersRebalance(t *testing.T) {
	const members = 1000
	f := newFleet(t, members, 1000)
	before, _ := allocated()
	f.all((*sailor).join)
	f.checkOwners()
	after, start := allocated()
	if each := (int64(after) - int64(before)) / members; each > 64<<10 {
		t.Errorf("a member holds %d bytes", each)
	}
	for range 3 {
		f.all((*sailor).steady)
	}
	_, beats := allocated()
	if each := (beats - start) / (3 * members); each > 32<<10 {
		t.Errorf("a heartbeat and its client allocate %d bytes", each)
	}
	generation := f.members[0].generation
	f.replaceOne(true)
	f.checkOwners()
	if got := f.members[0].generation; got != generation+1 {
		t.Errorf("generation %d after %d", got, generation)
	}
	_, end := allocated()
	if each := (end - beats) / members; each > 128<<10 {
		t.Errorf("a rebalance allocates %d bytes for each member", each)
	}
	f.all((*sailor).steady)
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Version, describe.Groups = 5, []string{"fleet"}
	if d := ask[*kmsg.DescribeGroupsResponse](f.members[0].wire, describe).Groups[0]; d.State != "Stable" || len(d.Members) != members {
		t.Errorf("described: %s, %d members", d.State, len(d.Members))
	}
	t.Logf("held for each member %d B; allocated for a heartbeat %d B, for each member of a rebalance %d B",
		(int64(after)-int64(before))/members, (beats-start)/(3*members), (end-beats)/members)
}

// BenchmarkThousandMembers compares heartbeats and rebalances of 1,000 members with as
// many requests that the broker answers at once (ApiVersions), over the same connections
// and in turn.
func BenchmarkThousandMembers(b *testing.B) {
	f := newFleet(b, 1000, 1000)
	f.all((*sailor).join)
	echo := func(m *sailor) error {
		_, err := m.roundTrip(kmsg.NewPtrApiVersionsRequest())
		return err
	}
	timed := func(do func()) time.Duration {
		start := time.Now()
		do()
		return time.Since(start)
	}
	var beats, rebalances, echoes []time.Duration
	for b.Loop() {
		echoes = append(echoes, timed(func() { f.all(echo) }))
		beats = append(beats, timed(func() { f.all((*sailor).steady) }))
		rebalances = append(rebalances, timed(func() { f.replaceOne(false) }))
	}
	f.checkOwners()
	ratio := func(of []time.Duration) float64 {
		ratios := make([]float64, len(of))
		for i := range of {
			ratios[i] = float64(of[i]) / float64(echoes[i])
		}
		slices.Sort(ratios)
		return ratios[len(ratios)/2]
	}
	slices.Sort(rebalances)
	b.ReportMetric(ratio(beats), "heartbeat/echo")
	b.ReportMetric(ratio(rebalances), "rebalance/echoes")
	b.ReportMetric(float64(rebalances[len(rebalances)/2].Milliseconds()), "ms/rebalance")
}
