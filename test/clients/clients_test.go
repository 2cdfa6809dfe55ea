// Package clients_test drives the real binary with clients that nobody here wrote:
// each produces and consumes with every codec it knows, and reads what the others
// wrote.
package clients_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/test/harness"
)

// message is what every client can send and receive.
type message struct {
	Key, Value, HeaderKey, HeaderValue string
}

// client is one of the libraries under test.
type client struct {
	name   string
	codecs []string // that it produces
	// produce sends the messages to partition 0 in order, and returns when they are
	// acknowledged.
	produce func(ctx context.Context, addr, topic, codec string, ms []message) error
	// consume reads n messages from the start of partition 0, without a group. nil
	// where the library has none but group consumers.
	consume func(ctx context.Context, addr, topic string, n int) ([]message, error)
}

const (
	messages = 500
	timeout  = 2 * time.Minute
)

func allCodecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

// testMessages are of many sizes, some of them larger than a packet, and with bytes
// beyond ASCII.
func testMessages(seed string) []message {
	ms := make([]message, messages)
	for i := range ms {
		ms[i] = message{
			Key: fmt.Sprintf("%s-%d", seed, i), Value: strings.Repeat(fmt.Sprintf("%d·%s ", i, seed), i%100+1),
			HeaderKey: "n", HeaderValue: fmt.Sprint(i),
		}
	}
	return ms
}

// TestClients lets each client produce with each codec, and each client read each of
// the results.
func TestClients(t *testing.T) {
	t.Parallel()
	b := harness.Start(t)
	goClients := []client{franz(), saramaClient(), kafkaGo()}
	for _, producer := range goClients {
		for _, codec := range producer.codecs {
			t.Run(producer.name+"/"+codec, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				topic := "clients-" + producer.name + "-" + codec
				if _, err := b.Run(ctx, "", "topics", "create", topic, "--partitions", "1"); err != nil {
					t.Fatal(err)
				}
				want := testMessages(producer.name + codec)
				if err := producer.produce(ctx, b.Addr, topic, codec, want); err != nil {
					t.Fatalf("produce: %v", err)
				}
				for _, consumer := range goClients {
					got, err := consumer.consume(ctx, b.Addr, topic, len(want))
					if err != nil {
						t.Fatalf("%s consumes: %v", consumer.name, err)
					}
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("%s got other messages:\n%s", consumer.name, d)
					}
				}
				checkDump(t, b, topic, codec)
			})
		}
	}
}

// checkDump sees in the log that the codec was really used and that the files are
// sound: a client may fall back to none without a word.
func checkDump(t *testing.T, b *harness.Broker, topic, codec string) {
	t.Helper()
	out, err := b.Run(t.Context(), "", "dump-log", b.Dir+"/"+topic+"-0")
	if err != nil {
		t.Errorf("dump-log: %v", err)
	}
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
