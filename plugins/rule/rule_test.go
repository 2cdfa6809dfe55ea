package rule_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/millrace/millrace/plugins/rule"
)

// entries of the tests: each name has one partition, so that the answer tells which entry
// was found.
func entries(names ...string) []rule.Entry {
	var out []rule.Entry
	for i, name := range names {
		out = append(out, rule.Entry{Part: []byte(name), Places: rule.Places{Partitions: []uint32{uint32(i)}}})
	}
	return out
}

func prepared(t testing.TB, r rule.Rule) *rule.Rule {
	t.Helper()
	if err := r.Prepare(); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestPlace(t *testing.T) {
	t.Parallel()
	others := rule.Places{Partitions: []uint32{9}}
	before := rule.Rule{Part: rule.Before, Delimiter: ':', Entries: entries("eu", "us", ""), Others: others}
	after := rule.Rule{Part: rule.After, Delimiter: ':', Entries: entries("eu", "us", "", "b:c"), Others: others}
	whole := rule.Rule{Part: rule.Whole, Delimiter: ':', Entries: entries("eu", "eu:1", ""), Others: others}
	for _, c := range []struct {
		name string
		rule rule.Rule
		key  []byte
		want int32
	}{
		{"before", before, []byte("us:17"), 1},
		{"before, several delimiters", before, []byte("eu:us:1"), 0},
		{"before, no delimiter", before, []byte("us"), 1},
		{"before, nothing", before, []byte(":us"), 2},
		{"before, unknown", before, []byte("asia:1"), 9},
		{"after", after, []byte("17:us"), 1},
		{"after, first delimiter", after, []byte("a:b:c"), 3},
		{"after, no delimiter", after, []byte("eu"), 0},
		{"after, nothing", after, []byte("eu:"), 2},
		{"whole", whole, []byte("eu:1"), 1},
		{"whole, not its beginning", whole, []byte("eu:2"), 9},
		{"whole, empty is a key", whole, []byte{}, 2},
		{"no others", rule.Rule{Entries: entries("eu")}, []byte("us"), rule.Undecided},
		{"an entry without places does not go to the others", rule.Rule{Entries: []rule.Entry{{Part: []byte("eu")}}, Others: others}, []byte("eu"), rule.Undecided},
		{"keyless", rule.Rule{Others: others, Keyless: rule.Places{Partitions: []uint32{4}}}, nil, 4},
		{"keyless undecided", rule.Rule{Others: others}, nil, rule.Undecided},
		{"empty rule", rule.Rule{}, []byte("x"), rule.Undecided},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := prepared(t, c.rule).Place(c.key, 10); got != c.want {
				t.Errorf("partition %d, want %d", got, c.want)
			}
		})
	}
}

// TestHashes: the hashes are the published ones, so that clients place alike.
func TestHashes(t *testing.T) {
	t.Parallel()
	// murmur2 and its sign bit from Kafka's UtilsTest (foobar, 21), CRC-32 and FNV-1a from
	// their check values for 123456789 and foobar.
	murmur := int32(-790332482)
	for _, c := range []struct {
		hash rule.Hash
		key  string
		want uint32
	}{
		{rule.Murmur2, "foobar", uint32(murmur) & 0x7fffffff},
		{rule.CRC32, "123456789", 0xcbf43926},
	} {
		if got := c.hash.Of([]byte(c.key)); got != c.want {
			t.Errorf("hash %d of %q: %#x, want %#x", c.hash, c.key, got, c.want)
		}
	}
	for _, h := range []rule.Hash{rule.Murmur2, rule.CRC32, rule.FNV1a} {
		all := prepared(t, rule.Rule{Others: rule.Places{All: true, Hash: h}})
		some := prepared(t, rule.Rule{Others: rule.Places{Partitions: []uint32{6, 2, 4}, Hash: h}})
		hit := map[int32]bool{}
		for i := range 1000 {
			key := fmt.Appendf(nil, "key-%d", i)
			if got, want := all.Place(key, 7), int32(h.Of(key)%7); got != want {
				t.Fatalf("all, hash %d: partition %d, want %d", h, got, want)
			}
			got := some.Place(key, 7)
			if want := []int32{6, 2, 4}[h.Of(key)%3]; got != want {
				t.Fatalf("some, hash %d: partition %d, want %d", h, got, want)
			}
			hit[got] = true
		}
		if len(hit) != 3 {
			t.Errorf("hash %d chose only among %v", h, hit)
		}
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	key := []byte("foobar")
	h := rule.Murmur2.Of(key)
	for _, c := range []struct {
		name string
		ring []rule.Point
		want int32
	}{
		{"at the hash", []rule.Point{{h - 1, 0}, {h, 1}, {h + 1, 2}}, 1},
		{"after the hash", []rule.Point{{h - 1, 0}, {h + 1, 1}, {h + 2, 2}}, 1},
		{"around the end", []rule.Point{{h - 3, 0}, {h - 2, 1}, {h - 1, 2}}, 0},
		{"one point before", []rule.Point{{h - 1, 5}}, 5},
		{"one point after", []rule.Point{{h + 1, 5}}, 5},
		{"twice the same point, the first", []rule.Point{{h - 1, 0}, {h, 3}, {h, 4}}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := prepared(t, rule.Rule{Others: rule.Places{Ring: c.ring}}).Place(key, 6); got != c.want {
				t.Errorf("partition %d, want %d", got, c.want)
			}
		})
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	bad := map[string]rule.Places{
		"partitions and all":  {Partitions: []uint32{1}, All: true},
		"partitions and ring": {Partitions: []uint32{1}, Ring: []rule.Point{{1, 1}}},
		"all and ring":        {All: true, Ring: []rule.Point{{1, 1}}},
		"unknown hash":        {All: true, Hash: rule.FNV1a + 1},
		"unsorted ring":       {Ring: []rule.Point{{2, 0}, {1, 0}}},
	}
	rules := map[string]rule.Rule{
		"unknown part": {Part: rule.After + 1},
		"twice":        {Entries: entries("a", "b", "a")},
	}
	for name, p := range bad {
		rules["others: "+name] = rule.Rule{Others: p}
		rules["keyless: "+name] = rule.Rule{Keyless: p}
		rules["entry: "+name] = rule.Rule{Entries: []rule.Entry{{Part: []byte("a"), Places: p}}}
	}
	for name, r := range rules {
		if err := r.Prepare(); !errors.Is(err, rule.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	at := func(p uint32) []rule.Rule {
		return []rule.Rule{
			{Others: rule.Places{Partitions: []uint32{0, p, 0}}},
			{Keyless: rule.Places{Partitions: []uint32{p}}},
			{Others: rule.Places{Ring: []rule.Point{{7, p}, {9, 0}}}},
			{Entries: []rule.Entry{{Part: []byte("a"), Places: rule.Places{Partitions: []uint32{p}}}}},
		}
	}
	for _, c := range []struct {
		partition uint32
		n         int32
		want      bool
	}{
		{0, 1, true}, {0, 0, false}, {0, -1, false}, {4, 5, true}, {5, 5, false}, {6, 5, false},
		{math.MaxInt32, math.MaxInt32, false}, {math.MaxInt32 + 1, math.MaxInt32, false},
		{math.MaxUint32, 5, false}, // the highest plus one is not 0
	} {
		for i, r := range at(c.partition) {
			if got := prepared(t, r).Fits(c.n); got != c.want {
				t.Errorf("rule %d with partition %d fits %d: %v", i, c.partition, c.n, got)
			}
		}
	}
	if !prepared(t, rule.Rule{Others: rule.Places{All: true}}).Fits(1) {
		t.Error("all fits any topic")
	}
}

// TestPrepareAgain: what is prepared twice knows nothing of the first time.
func TestPrepareAgain(t *testing.T) {
	t.Parallel()
	r := prepared(t, rule.Rule{Entries: entries("a", "b")})
	r.Entries = entries("c")
	if err := r.Prepare(); err != nil {
		t.Fatal(err)
	}
	if !r.Fits(1) || r.Place([]byte("a"), 1) != rule.Undecided || r.Place([]byte("c"), 1) != 0 {
		t.Error("the first rule shows")
	}
}

func TestPlaceDoesNotAllocate(t *testing.T) {
	ring := make([]rule.Point, 1000)
	for i := range ring {
		ring[i] = rule.Point{Point: uint32(i) * 1000, Partition: uint32(i % 10)}
	}
	r := prepared(t, rule.Rule{
		Part: rule.Before, Delimiter: ':', Entries: entries("eu", "us"),
		Others: rule.Places{Ring: ring, Hash: rule.CRC32}, Keyless: rule.Places{All: true, Hash: rule.FNV1a},
	})
	keys := [][]byte{[]byte("eu:1"), []byte("asia:1"), []byte("none"), {}, nil}
	var sum int32
	if n := testing.AllocsPerRun(100, func() {
		for _, key := range keys {
			sum += r.Place(key, 10)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
