// Package clients_test drives the real binary with clients that nobody here wrote:
// each produces and consumes with every codec it knows, and reads what the others
// wrote.
package clients_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// client is one of the programs or libraries under test.
type client struct {
	name, version string
	// needs are the commands without which it cannot be had.
	needs []string
	// codecs that it produces with, and those that it reads; nil for all.
	codecs, reads []string
	// untimed producers send no times at all: there are none to be read.
	untimed bool
	// note says what it leaves out, for the page in docs.
	note string
	// says reduces messages to what the client can send; nil where it can send all.
	// A Time of -1 is set by the client.
	says func(*message)
	// produce sends the messages to partition 0 in order, and returns when they are
	// acknowledged.
	produce func(ctx context.Context, addr, topic, codec string, ms []message) error
	// consume reads n messages from the start of partition 0, without a group. nil
	// where the library has none but group consumers.
	consume func(ctx context.Context, addr, topic string, n int) ([]message, error)
	// shows reduces messages to what the client shows of them; nil where that is all.
	shows func(*message)
}

const timeout = 5 * time.Minute

// maxWait is how long consumers let the broker wait for more at the end of a
// partition; with their defaults most of the time of these tests would go there.
const maxWait = 50 * time.Millisecond

func allCodecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

// allClients are the clients that the page in docs has rows for.
func allClients(t *testing.T) []client {
	clients := []client{franz(), saramaClient(), kafkaGo(), kcat()}
	for _, version := range javaVersions() {
		clients = append(clients, javaClient(t, version))
	}
	return slices.Concat(clients, []client{kafkaJS(t)}, pythonClients(t), oldClients(t))
}

// TestClients lets each client produce with each codec, and each client read each of
// the results, and puts clients into groups. What passed is compared with
// docs/compatibility.md; -update writes it.
func TestClients(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	clients := allClients(t)
	groups := allGroupClients(t)
	var seen results
	var grouped groupResults
	t.Run("matrix", func(t *testing.T) {
		t.Run("groups", func(t *testing.T) {
			t.Parallel()
			testGroups(t, groups, &grouped)
		})
		present := make([]client, 0, len(clients))
		for _, c := range clients {
			if t.Run(c.name+" "+c.version, func(t *testing.T) { harness.Need(t, c.needs...) }); c.present() {
				present = append(present, c)
			}
		}
		for i, producer := range present {
			for j, codec := range producer.codecs {
				t.Run(producer.id()+"/"+codec, func(t *testing.T) {
					t.Parallel()
					ctx, cancel := context.WithTimeout(t.Context(), timeout)
					defer cancel()
					exchange(ctx, t, b, &producer, codec, present, uint64(i*10+j), &seen)
				})
			}
		}
	})
	if !t.Failed() {
		checkPage(t, b, clients, &seen, groups, &grouped)
	}
}

// present tells whether the machine has what the client needs.
func (c *client) present() bool {
	return !slices.ContainsFunc(c.needs, func(command string) bool { return !installed(command) })
}

func (c *client) id() string { return c.name + "-" + c.version }

// exchange lets one client produce and all of them read the result.
func exchange(ctx context.Context, t *testing.T, b *harness.Broker, producer *client, codec string, consumers []client, seed uint64, seen *results) {
	topic := topicName(producer.id(), codec)
	if _, err := b.Run(ctx, "", "topics", "create", topic, "--partitions", "1"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	want := testMessages(seed, start)
	if producer.says != nil {
		want = mapped(want, producer.says)
	}
	if err := producer.produce(ctx, b.Addr, topic, codec, want); err != nil {
		t.Fatalf("produce: %v", err)
	}
	end, err := endOffset(ctx, b.Addr, topic)
	if err != nil || end != int64(len(want)) {
		t.Fatalf("the end offset is %d (%v) after %d messages", end, err, len(want))
	}
	checkDump(ctx, t, b, topic, codec)
	if t.Failed() {
		return
	}
	seen.add(producer, codec, "produces", true)
	stamped := want[0].Time < 0 && !producer.untimed
	for i := range consumers {
		c := &consumers[i]
		if c.consume == nil || c.reads != nil && !slices.Contains(c.reads, codec) {
			continue
		}
		got, err := c.consume(ctx, b.Addr, topic, len(want))
		if err != nil {
			t.Errorf("%s consumes: %v", c.id(), err)
			seen.add(c, codec, "consumes", false)
			continue
		}
		if stamped {
			// The producer set the time: it has to be of this moment, and the same for all
			// who read it.
			want = takeTimes(t, want, got, start)
			stamped = false
		}
		expected := want
		if c.shows != nil {
			expected = mapped(want, c.shows)
		}
		d := difference(expected, got)
		if d != "" {
			t.Errorf("%s got other messages: %s", c.id(), d)
		}
		seen.add(c, codec, "consumes", d == "")
	}
}

// topicName makes a legal name of whatever is given.
func topicName(parts ...string) string {
	return regexp.MustCompile(`[^A-Za-z0-9.-]+`).ReplaceAllString(strings.Join(parts, "-"), "-")
}

// takeTimes sees that the times of received messages lie between start and now, and
// gives them to the sent ones.
func takeTimes(t *testing.T, sent, got []message, start time.Time) []message {
	t.Helper()
	i := 0
	return mapped(sent, func(m *message) {
		if i < len(got) {
			if at := got[i].Time; at < start.UnixMilli() || at > time.Now().UnixMilli() {
				t.Errorf("message %d has time %d, which is not of this test", i, at)
			}
			m.Time = got[i].Time
		}
		i++
	})
}

// endOffset asks with a client of its own.
func endOffset(ctx context.Context, addr, topic string) (int64, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return -1, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return -1, err
	}
	end, ok := ends.Lookup(topic, 0)
	if !ok {
		return -1, fmt.Errorf("no end offset of %s-0", topic)
	}
	return end.Offset, end.Err
}

// checkDump sees in the log that the codec was really used and that the files are
// sound: a client may fall back to none without a word. Clients leave a batch as it
// is where compression does not make it smaller, so some may be uncompressed.
func checkDump(ctx context.Context, t *testing.T, b *harness.Broker, topic, codec string) {
	t.Helper()
	out := b.DumpLog(ctx, topic)
	if !strings.Contains(out, "compresscodec: "+codec+" ") {
		t.Errorf("no batch in the log of %s is compressed with %s:\n%.2000s", topic, codec, out)
	}
	others := slices.DeleteFunc(allCodecs(), func(c string) bool { return c == codec || c == "none" })
	for _, other := range others {
		if strings.Contains(out, "compresscodec: "+other+" ") {
			t.Errorf("a batch in the log of %s is compressed with %s, not %s", topic, other, codec)
		}
	}
}

// moduleVersion is the version of a Go module that these tests are built with.
func moduleVersion(path string) string {
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require ")); len(f) >= 2 && f[0] == path {
			return strings.TrimPrefix(f[1], "v")
		}
	}
	return "unknown"
}
