package legacy_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/legacy"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/tree"
)

func open(t *testing.T) (*legacy.Offsets, core.CoordinatorSession) {
	t.Helper()
	c, err := embedded.Open(t.Context(), embedded.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return legacy.New(func(context.Context) (core.CoordinatorSession, error) { return s, nil }), s
}

func TestCommitAndFetch(t *testing.T) {
	t.Parallel()
	o, s := open(t)
	tp := core.TopicPartition{Topic: "orders", Partition: 3}
	if _, ok, err := o.Fetch(t.Context(), "g", tp); ok || err != nil {
		t.Fatalf("before the first commit: %v, %v", ok, err)
	}
	for _, want := range []int64{7, 1 << 40, 2} {
		if err := o.Commit(t.Context(), "g", tp, want); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := o.Fetch(t.Context(), "g", tp); got != want || !ok || err != nil {
			t.Errorf("committed %d, fetched %d, %v, %v", want, got, ok, err)
		}
	}
	node, err := s.Get(t.Context(), "/consumers/g/offsets/orders/3")
	if err != nil || string(node.Data) != "2" {
		t.Errorf("the node holds %q, error %v", node.Data, err)
	}
	// What an old consumer writes by itself is served.
	if _, err := s.Commit(t.Context(), core.Set("/consumers/g/offsets/orders/3", []byte("99"), core.AnyVersion)); err != nil {
		t.Fatal(err)
	}
	if got, _, err := o.Fetch(t.Context(), "g", tp); got != 99 || err != nil {
		t.Errorf("fetched %d, error %v", got, err)
	}
}

func TestFirstCommitsAtOnce(t *testing.T) {
	t.Parallel()
	o, _ := open(t)
	var wg sync.WaitGroup
	for i := range int32(20) {
		wg.Go(func() {
			if err := o.Commit(t.Context(), "g", core.TopicPartition{Topic: "orders", Partition: i % 4}, 5); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range int32(4) {
		if got, ok, err := o.Fetch(t.Context(), "g", core.TopicPartition{Topic: "orders", Partition: i}); got != 5 || !ok || err != nil {
			t.Errorf("partition %d: %d, %v, %v", i, got, ok, err)
		}
	}
}

// TestBadGroups: a group's name cannot reach other nodes.
func TestBadGroups(t *testing.T) {
	t.Parallel()
	o, s := open(t)
	tp := core.TopicPartition{Topic: "orders"}
	for _, g := range []string{"", ".", "..", "a/b", "../brokers", "a\x00", "a\n", "\u009f", "\ufffd", strings.Repeat("/", 9)} {
		err := o.Commit(t.Context(), g, tp, 1)
		if code, _ := core.KafkaCode(err); code != kerr.InvalidGroupID.Code {
			t.Errorf("commit of group %q: %v", g, err)
		}
		_, _, err = o.Fetch(t.Context(), g, tp)
		if code, _ := core.KafkaCode(err); code != kerr.InvalidGroupID.Code {
			t.Errorf("fetch of group %q: %v", g, err)
		}
	}
	if _, err := s.Get(t.Context(), tree.ConsumersPath); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("something was written: %v", err)
	}
	if err := o.Commit(t.Context(), "Grüße 東京 :-)", tp, 1); err != nil {
		t.Errorf("a name that is fine: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	o, s := open(t)
	tp := core.TopicPartition{Topic: "orders"}
	if err := o.Commit(t.Context(), "g", tp, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), core.Set(tree.ConsumerOffsetPath("g", "orders", 0), []byte("many"), core.AnyVersion)); err != nil {
		t.Fatal(err)
	}
	_, _, err := o.Fetch(t.Context(), "g", tp)
	if code, message := core.KafkaCode(err); code != kerr.UnknownServerError.Code || !strings.Contains(message, "/consumers/g/offsets/orders/0") {
		t.Errorf("fetch: %v", err)
	}
}

func TestOutOfReach(t *testing.T) {
	t.Parallel()
	gone := legacy.New(func(context.Context) (core.CoordinatorSession, error) { return nil, core.ErrSessionLost })
	o, s := open(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*legacy.Offsets{gone, o} {
		err := o.Commit(t.Context(), "g", core.TopicPartition{Topic: "orders"}, 1)
		if code, _ := core.KafkaCode(err); code != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("commit: %v", err)
		}
		_, _, err = o.Fetch(t.Context(), "g", core.TopicPartition{Topic: "orders"})
		if code, _ := core.KafkaCode(err); code != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("fetch: %v", err)
		}
	}
}

// TestCommitted collects the offsets of all groups for some topics.
func TestCommitted(t *testing.T) {
	t.Parallel()
	o, s := open(t)
	committed := func() map[string]replica.GroupOffsets {
		t.Helper()
		by, err := o.Committed(t.Context(), []string{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		return by
	}
	if by := committed(); len(by) > 0 {
		t.Errorf("in an empty tree: %v", by)
	}
	for _, c := range []struct {
		group, topic      string
		partition, offset int64
	}{{"g", "a", 0, 7}, {"g", "a", 2, 9}, {"h", "a", 0, 1}, {"h", "other", 0, 5}} {
		if err := o.Commit(t.Context(), c.group, core.TopicPartition{Topic: c.topic, Partition: int32(c.partition)}, c.offset); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Commit(t.Context(), core.Create("/consumers/idle", nil)); err != nil { // it has only registered
		t.Fatal(err)
	}
	want := map[string]replica.GroupOffsets{"a": {"g": {0: 7, 2: 9}, "h": {0: 1}}}
	if diff := cmp.Diff(want, committed()); diff != "" {
		t.Errorf("committed (-want +got):\n%s", diff)
	}
	if _, err := s.Commit(t.Context(), core.Set("/consumers/h/offsets/a/0", []byte("soon"), core.AnyVersion)); err != nil {
		t.Fatal(err)
	}
	if by, err := o.Committed(t.Context(), []string{"a"}); err == nil {
		t.Errorf("with a node that holds no offset: %v", by)
	}
}
