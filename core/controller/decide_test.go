package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

func among(live ...int32) func(int32) bool {
	return func(id int32) bool { return slices.Contains(live, id) }
}

func state(leader, epoch int32, isr ...int32) tree.PartitionState {
	return tree.PartitionState{Leader: leader, LeaderEpoch: epoch, ISR: isr}
}

func TestFirstState(t *testing.T) {
	t.Parallel()
	s, ok := firstState([]int32{3, 1, 2}, among(1, 2))
	if d := cmp.Diff(state(1, 0, 1, 2), s); d != "" || !ok {
		t.Error(d)
	}
	if _, ok := firstState([]int32{3}, among(1)); ok {
		t.Error("a leader without a live replica")
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		s        tree.PartitionState
		replicas []int32
		live     []int32
		unclean  bool
		want     tree.PartitionState
		changed  bool
	}{
		"all is well":                                      {state(1, 4, 1, 2), []int32{1, 2}, []int32{1, 2}, true, state(1, 4, 1, 2), false},
		"a follower is dead":                               {state(1, 4, 1, 2, 3), []int32{1, 2, 3}, []int32{1, 3}, false, state(1, 5, 1, 3), true},
		"a dead follower outside the ISR":                  {state(1, 4, 1), []int32{1, 2}, []int32{1}, false, state(1, 4, 1), false},
		"the leader is dead: by assignment, not ISR order": {state(1, 4, 3, 2, 1), []int32{1, 2, 3}, []int32{2, 3}, false, state(2, 5, 3, 2), true},
		"the next replica is not in the ISR":               {state(1, 4, 1, 3), []int32{1, 2, 3}, []int32{2, 3}, true, state(3, 5, 3), true},
		"nobody of the ISR lives: it stays":                {state(1, 4, 1, 3), []int32{1, 2, 3}, []int32{2}, false, state(-1, 5, 1, 3), true},
		"and stays":                                        {state(-1, 5, 1, 3), []int32{1, 2, 3}, []int32{2}, false, state(-1, 5, 1, 3), false},
		"one comes back":                                   {state(-1, 5, 1, 3), []int32{1, 2, 3}, []int32{2, 3}, false, state(3, 6, 3), true},
		"unclean": {state(1, 4, 1), []int32{1, 2, 3}, []int32{3, 2}, true,
			tree.PartitionState{Leader: 2, LeaderEpoch: 5, ISR: []int32{2}, Recovering: true}, true},
		"unclean, but nobody lives": {state(1, 4, 1), []int32{1, 2}, nil, true, state(-1, 5, 1), true},
		"a leader outside the ISR":  {state(1, 4, 2), []int32{1, 2}, []int32{1, 2}, false, state(2, 5, 2), true},
	} {
		got, changed := repair(c.s, c.replicas, among(c.live...), c.unclean)
		if d := cmp.Diff(c.want, got); d != "" || changed != c.changed {
			t.Errorf("%s: changed %t (-want +got):\n%s", name, changed, d)
		}
	}
}

// Whatever happens, repair is done after one step, never elects a dead leader, and
// without unclean elections never one outside the ISR.
func TestRepairAlways(t *testing.T) {
	t.Parallel()
	replicas := []int32{0, 1, 2}
	set := func(bits int) (ids []int32) {
		for i := range 3 {
			if bits&(1<<i) != 0 {
				ids = append(ids, int32(i))
			}
		}
		return ids
	}
	for isr := 1; isr < 8; isr++ {
		for alive := range 8 {
			for leader := int32(-1); leader < 3; leader++ {
				for _, unclean := range []bool{false, true} {
					s, live := state(leader, 7, set(isr)...), among(set(alive)...)
					next, changed := repair(s, replicas, live, unclean)
					if again, more := repair(next, replicas, live, unclean); more {
						t.Errorf("%+v, live %v: %+v and then %+v", s, set(alive), next, again)
					}
					switch {
					case next.Leader >= 0 && !live(next.Leader), len(next.ISR) == 0,
						next.Leader >= 0 && !slices.Contains(next.ISR, next.Leader),
						!unclean && next.Leader >= 0 && !slices.Contains(s.ISR, next.Leader),
						isr&alive != 0 && next.Leader < 0,
						unclean && alive != 0 && next.Leader < 0,
						changed != (next.LeaderEpoch == 8):
						t.Errorf("%+v, live %v, unclean %t: %+v", s, set(alive), unclean, next)
					}
				}
			}
		}
	}
}

func TestPreferAndVacate(t *testing.T) {
	t.Parallel()
	all := among(1, 2, 3)
	check := func(name string, got tree.PartitionState, changed bool, want tree.PartitionState, wantChanged bool) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" || changed != wantChanged {
			t.Errorf("%s: changed %t (-want +got):\n%s", name, changed, d)
		}
	}
	s, ok := prefer(state(2, 1, 2, 1), []int32{1, 2}, all)
	check("preferred", s, ok, state(1, 2, 2, 1), true)
	s, ok = prefer(state(2, 1, 2), []int32{1, 2}, all)
	check("not in the ISR", s, ok, state(2, 1, 2), false)
	s, ok = prefer(state(2, 1, 1, 2), []int32{1, 2}, among(2))
	check("dead", s, ok, state(2, 1, 1, 2), false)

	s, ok = vacate(state(1, 1, 1, 2, 3), []int32{1, 3, 2}, 1, all)
	check("leader leaves", s, ok, state(3, 2, 2, 3), true)
	s, ok = vacate(state(2, 1, 1, 2), []int32{1, 2}, 1, all)
	check("follower leaves", s, ok, state(2, 2, 2), true)
	s, ok = vacate(state(1, 1, 1), []int32{1, 2}, 1, all)
	check("last of the ISR stays", s, ok, state(1, 1, 1), false)
	s, ok = vacate(state(1, 1, 1, 2), []int32{1, 2}, 1, among(1))
	check("the others are dead", s, ok, state(1, 1, 1, 2), false)
}

func brokersOn(racks ...string) []candidate {
	out := make([]candidate, len(racks))
	for i, r := range racks {
		out[i] = candidate{int32(i), r}
	}
	return out
}

// The layouts that Kafka's documentation of its assignment gives.
func TestSpread(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		brokers       []candidate
		count, factor int
		at            placement
		want          [][]int32
	}{
		"five brokers": {brokersOn("", "", "", "", ""), 10, 3, placement{}, [][]int32{
			{0, 1, 2}, {1, 2, 3}, {2, 3, 4}, {3, 4, 0}, {4, 0, 1},
			{0, 2, 3}, {1, 3, 4}, {2, 4, 0}, {3, 0, 1}, {4, 1, 2},
		}},
		"more partitions":      {brokersOn("", "", ""), 2, 2, placement{start: 1, shift: 1, first: 2}, [][]int32{{0, 2}, {1, 2}}},
		"one broker":           {brokersOn(""), 3, 1, placement{}, [][]int32{{0}, {0}, {0}}},
		"six brokers on racks": {brokersOn("a", "b", "c", "a", "b", "c"), 3, 3, placement{}, [][]int32{{0, 1, 2}, {1, 2, 3}, {2, 3, 4}}},
	} {
		got, err := spread(c.brokers, c.count, c.factor, c.at)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestSpreadAlways(t *testing.T) {
	t.Parallel()
	for _, racks := range []string{"", "ab", "aab", "aabbcc", "aaab", "abcdefg"} {
		for n := 1; n <= 7; n++ {
			brokers := make([]candidate, n)
			names := map[string]bool{}
			for i := range brokers {
				rack := ""
				if racks != "" {
					rack = string(racks[i%len(racks)])
				}
				brokers[i], names[rack] = candidate{int32(i), rack}, true
			}
			for factor := 1; factor <= n; factor++ {
				for start := range n {
					got, err := spread(brokers, 2*n, factor, placement{start: start, shift: start})
					if err != nil {
						t.Fatal(err)
					}
					leads := map[int32]int{}
					for _, replicas := range got {
						leads[replicas[0]]++
						on := map[string]bool{}
						for _, id := range replicas {
							on[brokers[id].rack] = true
						}
						if distinct := slices.Compact(sorted(replicas)); len(distinct) != factor || len(on) < min(factor, len(names)) {
							t.Errorf("%d brokers on racks %q, factor %d: %v", n, racks, factor, replicas)
						}
					}
					for id, k := range leads {
						if k != 2 {
							t.Errorf("%d brokers on racks %q: broker %d leads %d", n, racks, id, k)
						}
					}
				}
			}
		}
	}
}

func TestSpreadRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		count, factor int
		code          int16
	}{{0, 1, kerr.InvalidPartitions.Code}, {1, 0, kerr.InvalidReplicationFactor.Code}, {1, 3, kerr.InvalidReplicationFactor.Code}} {
		_, err := spread(brokersOn("", ""), c.count, c.factor, placement{})
		if code, _ := core.KafkaCode(err); code != c.code {
			t.Errorf("%d partitions, factor %d: %v", c.count, c.factor, err)
		}
	}
}

func TestCheckTopicName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "A-b_c.9", "__consumer_offsets", "...", strings.Repeat("x", 249)} {
		if err := CheckTopicName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a b", "a/b", "ä", "a\x00", strings.Repeat("x", 250)} {
		if code, _ := core.KafkaCode(CheckTopicName(name)); code != kerr.InvalidTopicException.Code {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for failures, want := range []int64{100, 200, 400, 500, 500} {
		if got := backoff(100, 500, failures); int64(got) != want {
			t.Errorf("%d failures: %d", failures, got)
		}
	}
	if backoff(100, 500, 1<<40) != 500 {
		t.Error("overflow")
	}
}

// A batch that failed takes in what came later, but never joins two topics of one
// name.
func TestBatchAbsorb(t *testing.T) {
	t.Parallel()
	tp := core.TopicPartition{Topic: "t"}
	one, two := core.TopicID{1}, core.TopicID{2}
	old, later := newBatch(), newBatch()
	old.addState(tp, stateEntry{id: one})
	e := old.states[tp]
	e.state.IsNew = true
	old.addState(tp, e)
	newer := stateEntry{id: one}
	newer.state.LeaderEpoch = 5
	later.addState(tp, newer)
	if !old.absorb(later) || old.states[tp].state.LeaderEpoch != 5 || !old.states[tp].state.IsNew {
		t.Errorf("merged: %+v", old.states[tp])
	}
	stop := newBatch()
	stop.addStop(tp, stopEntry{epoch: epochDuringDelete, remove: true})
	if !old.absorb(stop) || len(old.states) != 0 || !old.stops[tp].remove {
		t.Errorf("a stop supersedes a state: %+v", old)
	}
	again := newBatch()
	again.addState(tp, stateEntry{id: one})
	if old.absorb(again) {
		t.Error("a removal was taken back")
	}
	a, b := newBatch(), newBatch()
	a.addMeta(tp, metaEntry{id: one})
	b.addMeta(tp, metaEntry{id: two})
	if a.absorb(b) {
		t.Error("two topics became one")
	}
}
