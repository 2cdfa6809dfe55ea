package assign_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
)

func topicID(n int) core.TopicID { return core.TopicID{0: byte(n >> 8), 1: byte(n), 15: 1} }

// group makes a group whose members are named by letters, with the same topics.
func group(members int, topics ...int32) assign.Group {
	g := assign.Group{Topics: map[core.TopicID]int32{}}
	var ids []core.TopicID
	for i, n := range topics {
		g.Topics[topicID(i)] = n
		ids = append(ids, topicID(i))
	}
	for i := range members {
		g.Members = append(g.Members, assign.Member{ID: fmt.Sprintf("m%04d", i), Topics: ids})
	}
	return g
}

// apply makes the assignment the members' current one.
func apply(g *assign.Group, got []assign.Partitions) {
	for i := range g.Members {
		g.Members[i].Current = got[i]
	}
}

// check holds what every assignment has to be: complete, exclusive, within the
// subscriptions, ascending.
func check(t *testing.T, g assign.Group, got []assign.Partitions) {
	t.Helper()
	if len(got) != len(g.Members) {
		t.Fatalf("%d assignments for %d members", len(got), len(g.Members))
	}
	subscribed := map[core.TopicID]bool{}
	owned := map[core.TopicID]int32{}
	seen := map[core.TopicID]map[int32]bool{}
	for i, m := range g.Members {
		for _, id := range m.Topics {
			subscribed[id] = true
		}
		for id, partitions := range got[i] {
			if !slices.Contains(m.Topics, id) {
				t.Fatalf("%s has got %v, to which it is not subscribed", m.ID, id)
			}
			if len(partitions) == 0 || !slices.IsSorted(partitions) {
				t.Fatalf("%s has got %v", m.ID, partitions)
			}
			if seen[id] == nil {
				seen[id] = map[int32]bool{}
			}
			for _, p := range partitions {
				if seen[id][p] || p < 0 || p >= g.Topics[id] {
					t.Fatalf("partition %d of %v was given twice, or does not exist", p, id)
				}
				seen[id][p] = true
				owned[id]++
			}
		}
	}
	for id, n := range g.Topics {
		if subscribed[id] && owned[id] != n {
			t.Fatalf("topic %v: %d of %d partitions have an owner", id, owned[id], n)
		}
	}
}

func loads(got []assign.Partitions) []int {
	out := make([]int, len(got))
	for i := range got {
		out[i] = got[i].Count()
	}
	return out
}

// kept counts the partitions that stay with their members.
func kept(g assign.Group, got []assign.Partitions) (n int) {
	for i := range g.Members {
		for id, partitions := range g.Members[i].Current {
			for _, p := range partitions {
				if slices.Contains(got[i][id], p) {
					n++
				}
			}
		}
	}
	return n
}

// change makes a random change of topics or members, as groups see them.
func change(rng *rand.Rand, g *assign.Group, alike bool) {
	ids := slices.SortedFunc(keys(g.Topics), func(a, b core.TopicID) int { return slices.Compare(a[:], b[:]) })
	pick := func() []core.TopicID {
		if alike {
			return ids
		}
		var some []core.TopicID
		for _, id := range ids {
			if rng.IntN(2) == 0 {
				some = append(some, id)
			}
		}
		return some
	}
	switch rng.IntN(5) {
	case 0:
		g.Topics[topicID(rng.IntN(6))] = 1 + rng.Int32N(12)
	case 1:
		if len(ids) > 1 {
			delete(g.Topics, ids[rng.IntN(len(ids))])
		}
	case 2:
		g.Members = append(g.Members, assign.Member{ID: fmt.Sprint(rng.Uint64()), Topics: pick()})
	case 3:
		if len(g.Members) > 1 {
			i := rng.IntN(len(g.Members))
			g.Members = slices.Delete(g.Members, i, i+1)
		}
	default:
		if len(g.Members) > 0 {
			g.Members[rng.IntN(len(g.Members))].Topics = pick()
		}
	}
	if alike {
		ids = slices.SortedFunc(keys(g.Topics), func(a, b core.TopicID) int { return slices.Compare(a[:], b[:]) })
		for i := range g.Members {
			g.Members[i].Topics = ids
		}
	}
}

func keys(m map[core.TopicID]int32) func(func(core.TopicID) bool) {
	return func(yield func(core.TopicID) bool) {
		for id := range m {
			if !yield(id) {
				return
			}
		}
	}
}

// TestUniformAlike: whatever happens to a group whose members have the same topics, it
// is even, and no assignment that is even moves less.
func TestUniformAlike(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := group(1+rng.IntN(5), 5, 3)
		for range 30 {
			change(rng, &g, true)
			got := assign.Uniform(g)
			check(t, g, got)
			total := 0
			for _, n := range g.Topics {
				total += int(n)
			}
			least, extra := total/len(g.Members), total%len(g.Members)
			if l := loads(got); slices.Max(l)-slices.Min(l) > 1 {
				t.Fatalf("seed %d: loads %v", seed, l)
			}
			want := 0
			for i := range g.Members {
				have := 0
				for id, partitions := range g.Members[i].Current {
					for _, p := range partitions {
						if p < g.Topics[id] {
							have++
						}
					}
				}
				want += min(have, least)
				if have > least && extra > 0 {
					want++
					extra--
				}
			}
			if n := kept(g, got); n != want {
				t.Fatalf("seed %d: %d partitions stay where %d could", seed, n, want)
			}
			if again := assign.Uniform(g); !reflect.DeepEqual(got, again) {
				t.Fatalf("seed %d: a second time %v, not %v", seed, again, got)
			}
			apply(&g, got)
			if n := kept(g, assign.Uniform(g)); n != total {
				t.Fatalf("seed %d: without a change %d of %d partitions stay", seed, n, total)
			}
		}
	}
}

// TestUniformDiffering: where subscriptions differ, nobody has two more than another
// subscriber of a topic of which it could give one up, and without a change nothing
// moves.
func TestUniformDiffering(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		g := group(1+rng.IntN(5), 5, 3, 8)
		for range 30 {
			change(rng, &g, false)
			got := assign.Uniform(g)
			check(t, g, got)
			l := loads(got)
			for a := range g.Members {
				for id := range got[a] {
					for b := range g.Members {
						if slices.Contains(g.Members[b].Topics, id) && l[a]-l[b] > 1 {
							t.Fatalf("seed %d: loads %d and %d of two subscribers of %v", seed, l[a], l[b], id)
						}
					}
				}
			}
			apply(&g, got)
			if again := assign.Uniform(g); !reflect.DeepEqual(got, again) {
				t.Fatalf("seed %d: without a change %v becomes %v", seed, got, again)
			}
		}
	}
}

// TestUniformMoves: what a member leaves behind, or a new one gets, is all that moves.
func TestUniformMoves(t *testing.T) {
	t.Parallel()
	g := group(4, 12, 12)
	apply(&g, assign.Uniform(g))
	g.Members = slices.Delete(g.Members, 1, 2)
	got := assign.Uniform(g)
	if n := kept(g, got); n != 18 || !slices.Equal(loads(got), []int{8, 8, 8}) {
		t.Errorf("a member of four leaves: %d of 18 stay, loads %v", n, loads(got))
	}
	apply(&g, got)
	g.Members = append(g.Members, assign.Member{ID: "a new one", Topics: g.Members[0].Topics})
	got = assign.Uniform(g)
	if n := kept(g, got); n != 18 || !slices.Equal(loads(got), []int{6, 6, 6, 6}) {
		t.Errorf("a fourth joins: %d of 18 stay, loads %v", n, loads(got))
	}
}

// TestRange: co-partitioned, static members first, by instance.
func TestRange(t *testing.T) {
	t.Parallel()
	g := group(3, 7, 7, 2)
	g.Members[2].InstanceID = "b"
	g.Members[1].InstanceID = "a"
	g.Members[0].InstanceID = ""
	got := assign.Range(g)
	check(t, g, got)
	a, b, c := topicID(0), topicID(1), topicID(2)
	want := []assign.Partitions{
		{a: {5, 6}, b: {5, 6}},
		{a: {0, 1, 2}, b: {0, 1, 2}, c: {0}},
		{a: {3, 4}, b: {3, 4}, c: {1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	// The static members come back under other member ids, and have what they had.
	g.Members[1].ID, g.Members[2].ID = "z", "y"
	if got := assign.Range(g); !reflect.DeepEqual(got, want) {
		t.Errorf("after a restart %v\nwant %v", got, want)
	}
	g.Members[0].Topics = []core.TopicID{a, topicID(99)}
	got = assign.Range(g)
	check(t, g, got)
	if want := (assign.Partitions{a: {5, 6}}); !reflect.DeepEqual(got[0], want) {
		t.Errorf("the subscriber of one topic has %v, want %v", got[0], want)
	}
	if want := (assign.Partitions{a: {0, 1, 2}, b: {0, 1, 2, 3}, c: {0}}); !reflect.DeepEqual(got[1], want) {
		t.Errorf("the first of two subscribers has %v, want %v", got[1], want)
	}
}

func TestRangeRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		g := group(1+rng.IntN(5), 5, 3)
		for range 20 {
			change(rng, &g, seed%2 == 0)
			got := assign.Range(g)
			check(t, g, got)
			for id := range g.Topics {
				var sizes []int
				for i := range g.Members {
					if slices.Contains(g.Members[i].Topics, id) {
						sizes = append(sizes, len(got[i][id]))
					}
				}
				if len(sizes) > 0 && slices.Max(sizes)-slices.Min(sizes) > 1 {
					t.Fatalf("seed %d: runs of %v", seed, sizes)
				}
			}
		}
	}
}

// TestEdges: nobody, and nothing to be had.
func TestEdges(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]assign.Func{"uniform": assign.Uniform, "range": assign.Range} {
		if got := f(assign.Group{Topics: map[core.TopicID]int32{topicID(0): 3}}); len(got) != 0 {
			t.Errorf("%s: nobody gets %v", name, got)
		}
		g := group(3)
		check(t, g, f(g))
		g = group(3, 1)
		g.Members[0].Topics = []core.TopicID{topicID(7)}
		check(t, g, f(g))
	}
	for name, want := range map[string]string{"uniform": "uniform", "range": "range", "org.apache.kafka.coordinator.group.assignor.RangeAssignor": "range"} {
		if got, f, ok := assign.ByName(name); got != want || f == nil || !ok {
			t.Errorf("%s is %q, %v", name, got, ok)
		}
	}
	if _, _, ok := assign.ByName("sticky"); ok {
		t.Error("an assignor named sticky")
	}
}

// BenchmarkAssign assigns 1,000 partitions to 1,000 members, one of which is new.
func BenchmarkAssign(b *testing.B) {
	for _, differing := range []bool{false, true} {
		for _, name := range []string{"uniform", "range"} {
			_, f, _ := assign.ByName(name)
			g := group(999, 250, 250, 250, 250)
			if differing {
				for i := range g.Members {
					g.Members[i].Topics = g.Members[i].Topics[i%3:]
				}
			}
			apply(&g, f(g))
			g.Members = append(g.Members, assign.Member{ID: "new", Topics: []core.TopicID{topicID(0), topicID(1), topicID(2), topicID(3)}})
			b.Run(fmt.Sprintf("%s/differing=%t", name, differing), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f(g)
				}
			})
		}
	}
}
