package clients_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// delivery is a number that arrived at a member.
type delivery struct {
	member    string
	partition int32
	offset    int64
	number    int
	// committed: the member has committed it after that, before it got it again.
	committed bool
	// late: it was committed already, by whomever, before it could have been read.
	late bool
}

// ledger keeps what arrives at the members of a group.
type ledger struct {
	mu         sync.Mutex
	deliveries []*delivery
	// open are the deliveries that their member has not committed, by member and
	// partition.
	open    map[string][]*delivery
	numbers map[int]int     // how often each number has arrived
	newest  map[string]int  // the highest number that a member has got
	floor   map[int32]int64 // committed at a moment when nothing was under way
	changed chan struct{}
}

func newLedger() *ledger {
	return &ledger{
		open: map[string][]*delivery{}, numbers: map[int]int{}, newest: map[string]int{}, changed: make(chan struct{}),
	}
}

func openKey(member string, partition int32) string { return fmt.Sprint(member, " ", partition) }

// record notes that a number has arrived.
func (l *ledger) record(member string, partition int32, offset int64, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := &delivery{member: member, partition: partition, offset: offset, number: number}
	d.late = offset < l.floor[partition]
	key := openKey(member, partition)
	// What it gets again it had not committed before.
	l.open[key] = append(slices.DeleteFunc(l.open[key], func(o *delivery) bool { return o.offset >= offset }), d)
	l.deliveries = append(l.deliveries, d)
	l.numbers[number]++
	l.newest[member] = max(l.newest[member], number)
	l.wake()
}

// commit notes that a member's commit of the offset before next has succeeded.
func (l *ledger) commit(member string, partition int32, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := openKey(member, partition)
	l.open[key] = slices.DeleteFunc(l.open[key], func(o *delivery) bool {
		o.committed = o.committed || o.offset < next
		return o.offset < next
	})
	l.wake()
}

// failed notes that a member could not commit what it had got: a later commit of its
// may be of what another one has read meanwhile.
func (l *ledger) failed(member string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range int32(groupPartitions) {
		delete(l.open, openKey(member, p))
	}
}

func (l *ledger) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// hasRead tells whether a member has got a number from since on. The ledger is locked.
func (l *ledger) hasRead(member string, since int) bool {
	n, ok := l.newest[member]
	return ok && n >= since
}

// setFloor gives the offsets that are committed while everything that was sent has
// arrived: whatever arrives below them from now on is there again after its commit.
func (l *ledger) setFloor(committed map[int32]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor = committed
}

// await waits until the ledger is as wanted, which it tells.
func (l *ledger) await(ctx context.Context, patience time.Duration, wanted func(*ledger) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		l.mu.Lock()
		ok, changed := wanted(l), l.changed
		l.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// missing are the numbers below n that have not arrived.
func (l *ledger) missing(n int) []int {
	var out []int
	for i := range n {
		if l.numbers[i] == 0 {
			out = append(out, i)
		}
	}
	return out
}

func (l *ledger) missingNow(n int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missing(n)
}

// judge says what is wrong with what has arrived of the numbers below n. Of the
// deliveries of a number at most one was followed by a commit: were there two, the
// second member had been given what the first one had committed. Of members that do
// not tell of their commits, those are known that the test has seen itself.
func (l *ledger) judge(n int, silent bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []string
	if m := l.missing(n); len(m) > 0 {
		problems = append(problems, fmt.Sprintf("%d of %d numbers are missing: %v", len(m), n, m))
	}
	commits := map[int][]string{}
	places := map[int]delivery{}
	for _, d := range l.deliveries {
		if d.number < 0 || d.number >= n {
			problems = append(problems, fmt.Sprintf("%s got number %d, which was never sent", d.member, d.number))
		}
		if d.committed {
			commits[d.number] = append(commits[d.number], d.member)
		}
		if d.late {
			problems = append(problems, fmt.Sprintf("%s got offset %d of partition %d after it was committed", d.member, d.offset, d.partition))
		}
		if at, ok := places[d.number]; ok && (at.partition != d.partition || at.offset != d.offset) {
			problems = append(problems, fmt.Sprintf("number %d is in the log twice: %+v and %+v", d.number, at, *d))
		}
		places[d.number] = *d
	}
	if silent {
		return problems
	}
	for _, number := range slices.Sorted(maps.Keys(commits)) {
		if by := commits[number]; len(by) > 1 {
			problems = append(problems, fmt.Sprintf("number %d was committed by %s and arrived again", number, strings.Join(by, " and by ")))
		}
	}
	return problems
}

// String tells how much has arrived.
func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	by := map[string]int{}
	again := 0
	for _, d := range l.deliveries {
		by[d.member]++
	}
	for _, n := range l.numbers {
		again += n - 1
	}
	return fmt.Sprintf("%d numbers arrived, %d of them again, by member %v", len(l.numbers), again, by)
}

// The judge is told stories.
func TestLedger(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		tell   func(*ledger)
		silent bool
		want   string // in the first problem; empty where there is none
	}{
		{"all well", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.record("a", 0, 1, 1)
			l.commit("a", 0, 2)
		}, false, ""},
		{"killed before its commit", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.record("b", 0, 0, 0)
			l.record("b", 0, 1, 1)
			l.commit("b", 0, 2)
		}, false, ""},
		{"lost its partition and got it back", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.record("a", 0, 1, 1)
			l.record("a", 0, 0, 0)
			l.record("a", 0, 1, 1)
			l.commit("a", 0, 2)
		}, false, ""},
		{"killed after a commit that it did not tell of", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.record("b", 0, 1, 1)
			l.commit("b", 0, 2)
		}, false, ""},
		{"could not commit, and committed what others had read", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.failed("a")
			l.record("b", 0, 0, 0)
			l.commit("b", 0, 1)
			l.record("a", 0, 1, 1)
			l.commit("a", 0, 2)
		}, false, ""},
		{"missing", func(l *ledger) { l.record("a", 0, 0, 0) }, true, "1 of 2 numbers are missing: [1]"},
		{"given to another one after the commit", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.commit("a", 0, 1)
			l.record("b", 0, 0, 0)
			l.record("b", 0, 1, 1)
			l.commit("b", 0, 2)
		}, false, "number 0 was committed by a and by b"},
		{"given to the same one after the commit", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.commit("a", 0, 1)
			l.record("a", 0, 0, 0)
			l.record("a", 0, 1, 1)
			l.commit("a", 0, 2)
		}, false, "number 0 was committed by a and by a"},
		{"below the floor", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.record("a", 0, 1, 1)
			l.setFloor(map[int32]int64{0: 1})
			l.record("b", 0, 1, 1)
			l.record("b", 0, 0, 0)
		}, true, "b got offset 0 of partition 0 after it was committed"},
		{"in the log twice", func(l *ledger) {
			l.record("a", 0, 0, 0)
			l.record("a", 1, 0, 0)
			l.record("a", 0, 1, 1)
		}, true, "number 0 is in the log twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			c.tell(l)
			problems := l.judge(2, c.silent)
			if c.want == "" && len(problems) > 0 || c.want != "" && (len(problems) == 0 || !strings.Contains(problems[0], c.want)) {
				t.Errorf("judged %q, want %q", problems, c.want)
			}
		})
	}
}
