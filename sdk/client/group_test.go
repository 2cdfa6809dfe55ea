package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/client"
)

// committed is what a group has committed for a topic, by partition.
func (c *cluster) committed(group, topic string) map[int32]int64 {
	c.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.brokers...)}, c.options...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	resp, err := kadm.NewClient(cl).FetchOffsets(c.t.Context(), group)
	if err != nil {
		c.t.Fatal(err)
	}
	out := map[int32]int64{}
	resp.Offsets().Each(func(o kadm.Offset) {
		if o.Topic == topic {
			out[o.Partition] = o.At
		}
	})
	return out
}

func (c *cluster) fill(topic string, n int) {
	c.t.Helper()
	p := c.producer(client.ProducerConfig{})
	if err := p.Send(c.t.Context(), numbered(topic, 0, n)...); err != nil {
		c.t.Fatal(err)
	}
}

// TestAtLeastOnce: what the loop is through with is committed, and the message at which
// it was left comes again.
func TestAtLeastOnce(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		c.topic("t", 1)
		c.fill("t", 10)
		cfg := client.ConsumerConfig{Topics: []string{"t"}, Group: "g"}
		s := c.consumer(cfg)
		if got := values(take(t, s, 4)); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
			t.Fatalf("read %v", got)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := c.committed("g", "t")[0]; at != 3 {
			t.Errorf("committed %d, want 3", at)
		}
		s = c.consumer(cfg)
		for m, err := range s.Messages(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Value) == "3" {
				continue
			}
			if string(m.Value) != "4" {
				t.Errorf("read %s", m.Value)
			}
			if err := s.Commit(t.Context(), m); err != nil { // processed, and committed now
				t.Fatal(err)
			}
			break
		}
		if at := c.committed("g", "t")[0]; at != 5 {
			t.Errorf("committed %d, want 5", at)
		}
		if got := values(take(t, s, 1)); got[0] != "5" {
			t.Errorf("read %v", got)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := c.committed("g", "t")[0]; at != 5 {
			t.Errorf("committed %d, want 5", at)
		}
	})
}

// TestAtMostOnceReading: what the loop gets is committed before.
func TestAtMostOnceReading(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		c.topic("t", 1)
		c.fill("t", 10)
		s := c.consumer(client.ConsumerConfig{Topics: []string{"t"}, Group: "g", Commit: client.BeforeProcessing})
		for m, err := range s.Messages(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if at := c.committed("g", "t")[0]; at <= m.Offset {
				t.Errorf("%d is processed, and committed is %d", m.Offset, at)
			}
			if m.Offset == 4 {
				break
			}
		}
		if got := values(take(t, s, 1)); got[0] != "5" {
			t.Errorf("read %v after 4", got)
		}
	})
}

func TestManualCommit(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	c.topic("t", 1)
	c.fill("t", 10)
	cfg := client.ConsumerConfig{Topics: []string{"t"}, Group: "g", Commit: client.Manually}
	s := c.consumer(cfg)
	got := take(t, s, 8)
	if err := s.Commit(t.Context(), got[:3]...); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Errorf("commit of nothing: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := values(take(t, c.consumer(cfg), 2)); !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("read %v", got)
	}
}

// TestSeekInGroup: a seek back holds, although later messages were processed before.
func TestSeekInGroup(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	c.topic("t", 1)
	if err := c.producer(client.ProducerConfig{}).Send(t.Context(), timed("t", 10)...); err != nil {
		t.Fatal(err)
	}
	s := c.consumer(client.ConsumerConfig{Topics: []string{"t"}, Group: "g"})
	var got []string
	for m, err := range s.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Value))
		switch len(got) {
		case 5:
			s.Seek("t", 0, 1)
		case 7:
			if err := s.SeekTime(t.Context(), "t", time.Unix(1008, 0)); err != nil {
				t.Fatal(err)
			}
		case 9:
			s.Seek("t", 0, 3)
		}
		if len(got) == 10 {
			break
		}
	}
	if want := []string{"0", "1", "2", "3", "4", "1", "2", "8", "9", "3"}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := c.committed("g", "t")[0]; at != 3 {
		t.Errorf("committed %d, want 3, where the loop was left", at)
	}
}

// TestGroupOfThree: while members come and go, every message is processed by somebody,
// and none twice, because each member leaves in good order.
func TestGroupOfThree(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		const n = 3000
		c.topic("t", 6)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var (
			mu   sync.Mutex
			seen = map[string]int{}
			done = make(chan struct{})
		)
		member := func(most int) {
			s := c.consumer(client.ConsumerConfig{Topics: []string{"t"}, Group: "g", Options: []kgo.Opt{kgo.HeartbeatInterval(50 * time.Millisecond)}})
			defer func() {
				if err := s.Close(ctx); err != nil {
					t.Error(err)
				}
			}()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() { // ends with the context
				select {
				case <-done:
					cancel()
				case <-ctx.Done():
				}
			}()
			got := 0
			for m, err := range s.Messages(ctx) {
				if errors.Is(err, context.Canceled) {
					return
				}
				if err != nil {
					t.Error(err)
					continue
				}
				if got++; got > most {
					return // this one is another member's
				}
				mu.Lock()
				if seen[string(m.Value)]++; len(seen) == n {
					close(done)
				}
				mu.Unlock()
			}
		}
		var members sync.WaitGroup
		members.Go(func() { member(n) })
		members.Go(func() { member(300) })
		p := c.producer(client.ProducerConfig{})
		for i := range n {
			if i == n/2 {
				members.Go(func() { member(n) })
			}
			p.SendAsync(ctx, &client.Message{Topic: "t", Key: strconv.AppendInt(nil, int64(i), 10), Value: strconv.AppendInt(nil, int64(i), 10)}, func(_ *client.Message, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			if i%100 == 0 {
				if err := p.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := p.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		members.Wait()
		mu.Lock()
		defer mu.Unlock()
		twice := 0
		for _, times := range seen {
			if times > 1 {
				twice++
			}
		}
		if len(seen) != n || twice > 0 {
			t.Errorf("%d of %d messages were processed, %d of them more than once", len(seen), n, twice)
		}
		total := int64(0)
		for _, at := range c.committed("g", "t") {
			total += at
		}
		if total != n {
			t.Errorf("%d of %d messages are committed", total, n)
		}
	})
}

// TestCrashInGroup: a consumer that ends without Close gives its messages to the next
// one: at least once what it was at and what it had not committed, at most once no
// message again.
func TestCrashInGroup(t *testing.T) {
	t.Parallel()
	for mode, check := range map[client.Commit]func(t *testing.T, first, second []string){
		client.AfterProcessing: func(t *testing.T, first, second []string) {
			if last := first[len(first)-1]; !slices.Contains(second, last) {
				t.Errorf("%s was being processed and does not come again: %v", last, second)
			}
			for i := range 10 {
				if v := strconv.Itoa(i); !slices.Contains(first, v) && !slices.Contains(second, v) {
					t.Errorf("%s is lost", v)
				}
			}
		},
		client.BeforeProcessing: func(t *testing.T, first, second []string) {
			for _, v := range second {
				if slices.Contains(first, v) {
					t.Errorf("%s comes twice", v)
				}
			}
		},
	} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			t.Parallel()
			c := inMemory(t)
			c.topic("t", 1)
			c.fill("t", 10)
			crashed := c.consumer(client.ConsumerConfig{Topics: []string{"t"}, Group: "g", Commit: mode, Options: []kgo.Opt{kgo.SessionTimeout(6 * time.Second), kgo.InstanceID("crashes")}})
			first := values(take(t, crashed, 5))
			// A static member that comes again takes the place at once (KIP-345).
			s := c.consumer(client.ConsumerConfig{Topics: []string{"t"}, Group: "g", Commit: mode, Options: []kgo.Opt{kgo.InstanceID("crashes")}})
			p := c.producer(client.ProducerConfig{})
			if err := p.Send(t.Context(), numbered("t", 10, 1)...); err != nil {
				t.Fatal(err)
			}
			var second []string
			for m, err := range s.Messages(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if second = append(second, string(m.Value)); string(m.Value) == "10" {
					break
				}
			}
			check(t, first, second)
		})
	}
}
