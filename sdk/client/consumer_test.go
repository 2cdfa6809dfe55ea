package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/sdk/client"
)

// timed makes messages a second apart, the first one at 1000 s.
func timed(topic string, n int) []*client.Message {
	out := numbered(topic, 0, n)
	for i, m := range out {
		m.Timestamp = time.Unix(1000+int64(i), 0)
	}
	return out
}

func TestReadTopic(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		c.topic("t", 1)
		if err := c.producer(client.ProducerConfig{}).Send(t.Context(), timed("t", 10)...); err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			cfg   client.ConsumerConfig
			first string
			left  int
		}{
			"from the start":  {client.ConsumerConfig{Topics: []string{"t"}}, "0", 10},
			"from a time":     {client.ConsumerConfig{Topics: []string{"t"}, Start: kgo.NewOffset().AfterMilli(1_003_500)}, "4", 6},
			"from an offset":  {client.ConsumerConfig{Partitions: map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().At(7)}}}, "7", 3},
			"before the end":  {client.ConsumerConfig{Topics: []string{"t"}, Start: kgo.NewOffset().AtEnd().Relative(-2)}, "8", 2},
			"partition's own": {client.ConsumerConfig{Partitions: map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}}, "0", 10},
		} {
			if got := values(take(t, c.consumer(tc.cfg), tc.left)); got[0] != tc.first || got[len(got)-1] != "9" {
				t.Errorf("%s: %v", name, got)
			}
		}
	})
}

// TestLoops: a loop goes on where the last one was left, with the message at which it
// was left.
func TestLoops(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	c.topic("t", 1)
	if err := c.producer(client.ProducerConfig{}).Send(t.Context(), numbered("t", 0, 6)...); err != nil {
		t.Fatal(err)
	}
	s := c.consumer(client.ConsumerConfig{Topics: []string{"t"}})
	for _, want := range [][]string{{"0", "1", "2"}, {"2", "3"}, {"3", "4", "5"}} {
		if got := values(take(t, s, len(want))); !slices.Equal(got, want) {
			t.Errorf("read %v, want %v", got, want)
		}
	}
	for m, err := range s.Messages(t.Context()) {
		if err != nil || string(m.Value) != "5" {
			t.Fatalf("%v, %v", m, err)
		}
		for _, err := range s.Messages(t.Context()) {
			if !errors.Is(err, client.ErrInUse) {
				t.Errorf("a loop in a loop: %v", err)
			}
		}
		break
	}
	// The end of the context ends a loop, with its error.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for m, err := range s.Messages(ctx) {
		if last = err; m != nil {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the loop ended with %v", last)
	}
	// So does Close, without one.
	ended := make(chan error)
	go func() {
		var last error
		for _, err := range s.Messages(t.Context()) {
			last = err
		}
		ended <- last
	}()
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the loop ended with %v", err)
	}
	for m, err := range s.Messages(t.Context()) {
		t.Errorf("after close: %v, %v", m, err)
	}
}

func TestSeek(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		c.topic("t", 2)
		p := c.producer(client.ProducerConfig{})
		for partition := range int32(2) {
			if err := p.To(partition).Send(t.Context(), timed("t", 10)...); err != nil {
				t.Fatal(err)
			}
		}
		s := c.consumer(client.ConsumerConfig{Partitions: map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}})
		var got []string
		for m, err := range s.Messages(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(m.Value))
			switch len(got) {
			case 3:
				s.Seek("t", 0, 1) // back
			case 5:
				s.Seek("t", 0, 8) // forward
			case 7:
				if err := s.SeekTime(t.Context(), "t", time.Unix(1005, 0)); err != nil {
					t.Fatal(err)
				}
			case 8:
				s.Seek("t", 1, 0) // not one that is read here
			}
			if len(got) == 10 {
				break
			}
		}
		if want := []string{"0", "1", "2", "1", "2", "8", "9", "5", "6", "7"}; !slices.Equal(got, want) {
			t.Errorf("read %v, want %v", got, want)
		}
		if err := s.SeekTime(t.Context(), "missing", time.Unix(0, 0)); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("seek in a topic that is not there: %v", err)
		}
	})
}

// TestReadErrors: what cannot be read is an error of its partition, and the stream goes
// on with the others.
func TestReadErrors(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	c.topic("t", 2)
	if err := c.producer(client.ProducerConfig{}).To(0).Send(t.Context(), numbered("t", 0, 1)...); err != nil {
		t.Fatal(err)
	}
	s := c.consumer(client.ConsumerConfig{
		Partitions: map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart(), 1: kgo.NewOffset().At(100)}},
		Options:    []kgo.Opt{kgo.ConsumeResetOffset(kgo.NoResetOffset())},
	})
	var failure *client.Error
	read := 0
	for m, err := range s.Messages(t.Context()) {
		if err != nil {
			if !errors.As(err, &failure) {
				t.Fatal(err)
			}
		} else if string(m.Value) == "0" {
			read++
		}
		if failure != nil && read > 0 {
			break
		}
	}
	if failure.Topic != "t" || failure.Partition != 1 || !errors.Is(failure, kerr.OffsetOutOfRange) {
		t.Errorf("failed: %v", failure)
	}
}

func TestConsumerConfig(t *testing.T) {
	t.Parallel()
	brokers := []string{"127.0.0.1:1"}
	for name, cfg := range map[string]client.ConsumerConfig{
		"no brokers":       {Topics: []string{"t"}},
		"nothing to read":  {Brokers: brokers},
		"group and places": {Brokers: brokers, Group: "g", Partitions: map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset()}}},
		"commit":           {Brokers: brokers, Topics: []string{"t"}, Commit: 9},
		"options":          {Brokers: brokers, Topics: []string{"t"}, Options: []kgo.Opt{kgo.ProducerBatchMaxBytes(-1)}},
	} {
		if _, err := client.NewConsumer(cfg); !errors.Is(err, core.ErrInvalidConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := client.NewConsumer(client.ConsumerConfig{Brokers: brokers, Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &client.Message{Topic: "t"}); !errors.Is(err, client.ErrNoGroup) {
		t.Errorf("commit without a group: %v", err)
	}
	if s.Client() == nil {
		t.Error("no client")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
