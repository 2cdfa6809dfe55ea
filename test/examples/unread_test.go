package examples_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

const (
	old   = 300 // records past retention.ms
	young = 10
)

func unreadValue(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", 200)) }

// TestUnread: a record stays until the groups billing (franz-go) and archive (kcat) have both
// committed past it, over the plugin's death and the broker's.
func TestUnread(t *testing.T) {
	t.Parallel()
	harness.Need(t, "kcat")
	settings := append(harness.Plugin("unread", example(t, "unread")),
		"retention.unread.groups=billing,archive",
		"log.retention.check.interval.ms=20", "log.segment.delete.delay.ms=0",
		"group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=3",
	)
	b := harness.Start(t, settings...)
	limits := []string{"retention.ms=3600000", "retention.bytes=1", "segment.bytes=15000", "segment.ms=3600000"}
	create(t, b, "plain", "1", limits...)
	create(t, b, "orders", "1", append(limits, "retention.policy=unread")...)
	for _, topic := range []string{"plain", "orders"} {
		write(t, b, unreadRecords(topic)...)
	}

	harness.Eventually(t, "retention.ms and retention.bytes trim a topic without the policy", func() bool { return logStart(t, b, "plain") >= old })
	begins(t, b, "orders", 0)

	commit(t, b, "billing", 250)
	begins(t, b, "orders", 0)       // archive has read nothing
	archive(t, b, 120, "-c", "120") // in the middle of a segment
	begins(t, b, "orders", 120)     // it holds billing's back
	has(t, b, 120)                  // not one is lost
	harness.Eventually(t, "the files of what has gone are gone", func() bool {
		left, err := filepath.Glob(filepath.Join(b.Dir, "orders-0", "00000000000000000000.*"))
		return err == nil && len(left) == 0
	})

	before := b.PluginStatus(t)
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the plugin is there again", func() bool {
		s := b.PluginStatus(t)
		return s.State == "running" && s.PID != 0 && s.PID != before.PID && s.Restarts > before.Restarts
	})
	begins(t, b, "orders", 120)

	b.Stop()
	b = b.Restart(settings...)
	begins(t, b, "orders", 120)
	b.Kill()
	b = b.Restart(settings...)
	begins(t, b, "orders", 120)
	has(t, b, 120)

	archive(t, b, old+young, "-e")
	begins(t, b, "orders", 250) // billing holds now
	commit(t, b, "billing", old+young)
	begins(t, b, "orders", old) // the rest is read and too young
	has(t, b, old)
	if s := b.PluginStatus(t); s.Nonsense+s.Fallbacks > 0 {
		t.Errorf("plugins list says %+v", s)
	}
}

// unreadRecords are old ones and then young ones, of which segment.ms makes another segment.
func unreadRecords(topic string) []*kgo.Record {
	var out []*kgo.Record
	for i := range old + young {
		at := time.Now()
		if i < old {
			at = at.Add(-3 * time.Hour)
		}
		out = append(out, &kgo.Record{Topic: topic, Value: []byte(unreadValue(i)), Timestamp: at})
	}
	return out
}

// commit lets a member of a group read up to an offset and commit it.
func commit(t *testing.T, b *harness.Broker, group string, next int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := newClient(t, b, kgo.ConsumerGroup(group), kgo.ConsumeTopics("orders"), kgo.DisableAutoCommit())
	defer c.Close() // leaves the group
	for {
		fetches := c.PollRecords(ctx, 50)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("group %s: %v", group, err)
		}
		for _, r := range fetches.Records() {
			if r.Offset == next-1 {
				if err := c.CommitRecords(ctx, r); err != nil {
					t.Fatal(err)
				}
				committed(t, b, group, next)
				return
			}
		}
	}
}

// archive lets kcat read in the group archive, which commits when it ends: next then.
func archive(t *testing.T, b *harness.Broker, next int64, until ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := append([]string{"-b", b.Addr, "-G", "archive", "-X", "auto.offset.reset=earliest", "-q"}, until...)
	if out, err := exec.CommandContext(ctx, "kcat", append(args, "orders")...).CombinedOutput(); err != nil {
		t.Fatalf("kcat -G: %v\n%s", err, out)
	}
	committed(t, b, "archive", next)
}

// committed holds that a group has committed an offset, so that the rest of the test is about the
// policy.
func committed(t *testing.T, b *harness.Broker, group string, want int64) {
	t.Helper()
	offsets, err := kadm.NewClient(newClient(t, b)).FetchOffsets(t.Context(), group)
	o, ok := offsets.Lookup("orders", 0)
	if err != nil || !ok || o.At != want {
		t.Fatalf("group %s has committed %d, want %d (%v)", group, o.At, want, err)
	}
}

// has reads orders from its beginning: everything from an offset on is there.
func has(t *testing.T, b *harness.Broker, from int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := newClient(t, b, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for next := from; next < old+young; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("record %d: %v", next, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != int64(next) || string(r.Value) != unreadValue(next) {
				t.Fatalf("at offset %d comes %.20q, want record %d", r.Offset, r.Value, next)
			}
			next++
		})
	}
}
