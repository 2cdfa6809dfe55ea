package controller

import (
	"context"
	"log/slog"
	"testing"
)

func TestQueueKeys(t *testing.T) {
	t.Parallel()
	q := newQueue()
	var did []string
	add := func(what, key string) bool {
		return q.push(event{what: what, key: key, do: func(context.Context) error { did = append(did, what); return nil }})
	}
	take := func() {
		t.Helper()
		e, err := q.pop(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add("a", "k")
	add("b", "")
	add("again", "k") // stands behind a
	take()
	add("c", "k") // a is not waiting any more
	take()
	take()
	if got := len(did); got != 3 || did[0] != "a" || did[1] != "b" || did[2] != "c" {
		t.Errorf("did %v", did)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.pop(ended); err == nil {
		t.Error("an event out of nothing")
	}
	q.close()
	if add("late", "") {
		t.Error("a closed queue takes events")
	}
}

// An event that waits from an earlier term must not swallow the same event of the
// term that follows it.
func TestEventsOfTwoTerms(t *testing.T) {
	t.Parallel()
	r := &run{queue: newQueue(), ctx: t.Context(), log: slog.New(slog.DiscardHandler), cfg: &Config{}}
	first, second := newLeadership(r, 1, 1), newLeadership(r, 2, 2)
	defer first.close()
	defer second.close()
	var did []int32
	for _, l := range []*leadership{first, second} {
		l.push("brokers", "watch", func(context.Context) error { did = append(did, l.epoch); return nil })
	}
	r.lead = second
	for range 2 {
		e, err := r.queue.pop(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(did) != 1 || did[0] != 2 {
		t.Errorf("did %v, want the second term's event alone", did)
	}
}
