// Package cli_test runs the millrace command line against the real broker: what it
// prints, and its exit codes.
package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// Exit codes, as the help of millrace has them.
const (
	done        = 0
	failed      = 1
	usage       = 2
	unreachable = 3
	damaged     = 4
)

// shell runs commands against one broker.
type shell struct {
	t *testing.T
	b *harness.Broker
}

func newShell(t *testing.T) *shell {
	t.Helper()
	return &shell{t, harness.Start(t)}
}

// run executes a command, expects an exit code and returns what was printed.
func (s *shell) run(code int, stdin string, args ...string) harness.Result {
	s.t.Helper()
	return millrace(s.t, code, stdin, append(args, "--bootstrap-server", s.b.Addr)...)
}

// prints executes a command and expects it to print exactly this.
func (s *shell) prints(want, stdin string, args ...string) {
	s.t.Helper()
	if got := s.run(done, stdin, args...).Stdout; got != want {
		s.t.Errorf("millrace %s printed\n%s\nwant\n%s", strings.Join(args, " "), got, want)
	}
}

// fails executes a command and expects an exit code and words of its message.
func (s *shell) fails(code int, words, stdin string, args ...string) {
	s.t.Helper()
	says(s.t, s.run(code, stdin, args...).Stderr, words)
}

func millrace(t *testing.T, code int, stdin string, args ...string) harness.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r := harness.Millrace(ctx, t, stdin, args...)
	if r.Code != code {
		t.Fatalf("millrace %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
	return r
}

func says(t *testing.T, text, words string) {
	t.Helper()
	if !strings.Contains(text, words) {
		t.Errorf("said\n%s\nwithout %q", text, words)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.prints("", "", "topics", "list")
	s.prints("Created topic a.\nCreated topic b.\n", "", "topics", "create", "a", "b", "--partitions", "2", "--config", "retention.ms=3600000")
	s.fails(failed, "TOPIC_ALREADY_EXISTS", "", "topics", "create", "a")
	s.prints("Topic a exists already.\n", "", "topics", "create", "a", "--if-not-exists")
	s.prints("Topic v would be created.\n", "", "topics", "create", "v", "--validate-only")
	s.prints("a\nb\n", "", "topics", "list")
	s.prints("[\"a\",\"b\"]\n", "", "topics", "list", "--json")

	s.fails(failed, "Unknown topic config name: nonsense", "", "topics", "create", "c", "--config", "nonsense=1")
	s.fails(failed, "Invalid value x for configuration retention.ms", "", "topics", "create", "c", "--config", "retention.ms=x")
	s.fails(failed, "INVALID_TOPIC_EXCEPTION", "", "topics", "create", "no/name")
	s.fails(failed, "INVALID_REPLICATION_FACTOR", "", "topics", "create", "c", "--replication-factor", "3")
	s.fails(usage, "want name=value", "", "topics", "create", "c", "--config", "nonsense")

	s.prints("Topic a has 4 partitions.\n", "", "topics", "alter", "a", "--partitions", "4")
	s.fails(failed, "INVALID_PARTITIONS", "", "topics", "alter", "a", "--partitions", "2")
	s.fails(usage, "--partitions is missing", "", "topics", "alter", "a")

	s.run(done, "x\ny\n", "produce", "a", "--partition", "3")
	out := s.run(done, "", "topics", "describe", "a").Stdout
	for _, want := range []string{"PartitionCount: 4", "ReplicationFactor: 1", "Configs: retention.ms=3600000", "Partition: 3  Leader: 0", "Offsets: 0..2"} {
		says(t, out, want)
	}
	var view struct {
		Name, ID   string
		Partitions []struct {
			Partition int32
			End       int64 `json:"log_end_offset"`
		}
		Configs map[string]string
	}
	if err := json.Unmarshal([]byte(s.run(done, "", "topics", "describe", "a", "--json").Stdout), &view); err != nil {
		t.Fatal(err)
	}
	if view.Name != "a" || len(view.ID) != 22 || len(view.Partitions) != 4 || view.Partitions[3].End != 2 || view.Configs["retention.ms"] != "3600000" {
		t.Errorf("describe --json has %+v", view)
	}
	s.fails(failed, "UNKNOWN_TOPIC_OR_PARTITION", "", "topics", "describe", "nope")

	s.prints("Deleted topic b.\n", "", "topics", "delete", "b")
	s.fails(failed, "UNKNOWN_TOPIC_OR_PARTITION", "", "topics", "delete", "b")
	s.prints("Topic b does not exist.\n", "", "topics", "delete", "b", "--if-exists")
	s.prints("a\n", "", "topics", "list")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.run(done, "", "topics", "create", "a", "--config", "retention.ms=3600000")
	s.prints("retention.ms  3600000  dynamic_topic_config\n", "", "config", "describe", "--topic", "a")
	s.prints("The change would be accepted.\n", "", "config", "alter", "--topic", "a", "--set", "segment.bytes=2000000", "--validate-only")
	s.prints("retention.ms  3600000  dynamic_topic_config\n", "", "config", "describe", "--topic", "a")
	s.prints("Changed.\n", "", "config", "alter", "--topic", "a", "--set", "segment.bytes=2000000", "--delete", "retention.ms")
	s.prints("segment.bytes  2000000  dynamic_topic_config\n", "", "config", "describe", "--topic", "a")
	s.prints(`{"name":"segment.bytes","value":"2000000","source":"DYNAMIC_TOPIC_CONFIG"}`+"\n", "", "config", "describe", "--topic", "a", "--json")
	says(t, s.run(done, "", "config", "describe", "--topic", "a", "--all").Stdout, "default_config")
	s.fails(failed, "INVALID_CONFIG", "", "config", "alter", "--topic", "a", "--set", "segment.bytes=many")
	s.fails(failed, "nope", "", "config", "alter", "--topic", "a", "--set", "nope=1")
	s.fails(failed, "UNKNOWN_TOPIC_OR_PARTITION", "", "config", "describe", "--topic", "nope")

	s.prints("Changed.\n", "", "config", "alter", "--broker-defaults", "--set", "log.retention.ms=5000000")
	says(t, s.run(done, "", "config", "describe", "--broker-defaults").Stdout, "log.retention.ms  5000000")
	says(t, s.run(done, "", "config", "describe", "--broker", "0").Stdout, "listeners")
	s.fails(failed, "no broker 7", "", "config", "describe", "--broker", "7")
	s.fails(failed, "listeners", "", "config", "alter", "--broker", "0", "--set", "listeners=x")
	s.fails(usage, "give one of", "", "config", "describe")
	s.fails(usage, "nothing to change", "", "config", "alter", "--topic", "a")
}

func TestProduceAndConsume(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.run(done, "", "topics", "create", "t", "--partitions", "1")
	old := time.Now().Add(-2 * time.Hour).UnixMilli() // older than any patience of the producer
	s.run(done, "h:1,g:2\tk\tv\n\tk2\tNUL\n", "produce", "t", "--parse-key", "--parse-headers", "--null-marker", "NUL",
		"--timestamp", fmt.Sprint(old))
	lines := fmt.Sprintf(`{"topic":"t","partition":0,"offset":2,"timestamp":%d,"key":"j","value":"w","headers":[{"key":"x","value":"y"},{"key":"n","value":null}]}
{"topic":"t","partition":0,"offset":3,"timestamp":%d,"key":"","value":null,"value_base64":"AP8="}
`, old+5000, old+6000)
	s.run(done, lines, "produce", "t", "--json", "--compression", "zstd")

	all := []string{"consume", "t", "--from-beginning", "--exit-at-end"}
	s.prints(fmt.Sprintf(`{"topic":"t","partition":0,"offset":0,"timestamp":%d,"key":"k","value":"v","headers":[{"key":"h","value":"1"},{"key":"g","value":"2"}]}
{"topic":"t","partition":0,"offset":1,"timestamp":%d,"key":"k2","value":null}
`, old, old)+lines, "", append(all, "--json")...)
	s.prints(fmt.Sprintf("%d|0|0|h:1,g:2|k|v\n%d|0|1||k2|nil\n%d|0|2|x:y,n:nil|j|w\n%d|0|3|||\x00\xff\n", old, old, old+5000, old+6000), "",
		append(all, "--print-key", "--print-headers", "--print-offset", "--print-partition", "--print-timestamp", "--separator", "|", "--null-marker", "nil")...)

	from := func(flags ...string) []string { return append([]string{"consume", "t", "--print-offset"}, flags...) }
	s.prints("3\t\x00\xff\n", "", from("--offset", "-1", "--exit-at-end")...)
	s.prints("1\tnull\n2\tw\n", "", from("--offset", "1", "--max-messages", "2")...)
	s.prints("0\tv\n", "", from("--offset", "earliest", "-n", "1")...)
	s.prints("2\tw\n3\t\x00\xff\n", "", from("--since", fmt.Sprint(old+1), "-e")...)
	s.prints("2\tw\n3\t\x00\xff\n", "", from("--since", time.UnixMilli(old+1000).UTC().Format(time.RFC3339), "-e")...)
	s.prints("0\tv\n", "", from("--since", "3h", "-n", "1")...)
	s.prints("", "", from("--since", "1h", "-e")...)
	s.prints("", "", from("-e")...)
	s.prints("", "", from("--idle-timeout", "100ms")...)
	s.fails(failed, "OFFSET_OUT_OF_RANGE", "", from("--offset", "99", "-n", "1")...)
	s.fails(failed, "UNKNOWN_TOPIC_OR_PARTITION", "", "consume", "nope", "-e")
	s.fails(usage, "partitions 0 to 0", "", from("--partition", "4")...)
	s.fails(usage, "give one of", "", from("--since", "1h", "--from-beginning")...)
	s.fails(usage, "--since xx", "", from("--since", "xx")...)
	s.fails(usage, "line 2", "{\"value\":\"ok\"}\n{\n", "produce", "t", "--json")
	s.fails(usage, "no separator", "x\n", "produce", "t", "--parse-key")
	s.fails(usage, "--compression foo", "", "produce", "t", "--compression", "foo")
	s.fails(failed, "3", "x\n", "produce", "t", "--partition", "3")

	s.run(done, "one\r\n\ntwo", "produce", "fresh", "--acks", "1")
	s.prints("one\r\n\ntwo\n", "", "consume", "fresh", "--from-beginning", "-e")
	s.run(done, "three\n", "produce", "fresh", "--acks", "0")
	s.prints("three\n", "", "consume", "fresh", "--offset", "3", "-n", "1")
}

// TestProduceInterrupted: Ctrl-C ends a producer that waits for input, and what it has
// read is sent.
func TestProduceInterrupted(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.run(done, "", "topics", "create", "t", "--partitions", "1")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), "produce", "t", "--bootstrap-server", s.b.Addr)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("first\n")); err != nil {
		t.Fatal(err)
	}
	s.prints("first\n", "", "consume", "t", "--offset", "0", "-n", "1") // it is there without waiting for an end
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupted producer: %v", err)
	}
}

// TestUnreachable: nobody listens there.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	addr := harness.FreePort(t)
	for _, args := range [][]string{
		{"topics", "list"}, {"produce", "t"}, {"consume", "t"}, {"config", "describe", "--topic", "t"},
	} {
		r := millrace(t, unreachable, "", append(args, "--bootstrap-server", addr, "--timeout", "2s")...)
		says(t, r.Stderr, "no broker can be reached at "+addr)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for line, words := range map[string]string{
		"topic":                           `did you mean "topics"?`,
		"topics lst":                      `did you mean "list"?`,
		"topics list --nope":              "unknown flag: --nope",
		"produce":                         "TOPIC is missing",
		"produce a b":                     `"b" is one argument too many`,
		"server a b":                      `"b" is one argument too many`,
		"dump-log":                        "FILE or DIR is missing",
		"dump-log nowhere":                "no such file",
		"version now":                     "too many",
		"topics list --command-config no": "no such file",
	} {
		r := millrace(t, usage, "", strings.Fields(line)...)
		says(t, r.Stderr, words)
	}
	says(t, millrace(t, done, "", "version").Stdout, "millrace ")
	says(t, millrace(t, done, "", "--help").Stdout, "Exit codes")
	says(t, millrace(t, done, "", "topics").Stdout, "Available Commands")
	for _, name := range []string{"bash", "zsh", "fish", "powershell"} {
		says(t, millrace(t, done, "", "completion", name).Stdout, "millrace")
	}
}

// TestProducePartitioner: the topic's own partitioner, the one that is asked for, and
// else murmur2.
func TestProducePartitioner(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.run(done, "", "topics", "create", "own", "--partitions", "4", "--config", "partitioner=round-robin")
	s.run(done, "", "topics", "create", "none", "--partitions", "7")
	partitions := func(topic string) string {
		t.Helper()
		out := s.run(done, "", "consume", topic, "--from-beginning", "--exit-at-end", "--print-partition", "--separator", " ").Stdout
		lines := strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(lines)
		return strings.Join(lines, ",")
	}
	s.run(done, "k\ta\nk\tb\nk\tc\nk\td\n", "produce", "own", "--parse-key")
	if got := partitions("own"); got != "0 a,1 b,2 c,3 d" {
		t.Errorf("round robin has put them into %s", got)
	}
	// As the tables in partitioners/testdata have them.
	s.run(done, "key\tjava\n", "produce", "none", "--parse-key")
	s.run(done, "key\tlibrdkafka\n", "produce", "none", "--parse-key", "--partitioner", "consistent")
	if got, want := partitions("none"), "4 java,5 librdkafka"; got != want {
		t.Errorf("they are in %s, want %s", got, want)
	}
	s.fails(usage, "known: consistent, ", "x\n", "produce", "none", "--partitioner", "mine")
	s.fails(usage, "exclude each other", "x\n", "produce", "none", "--partitioner", "random", "--partition", "1")
}
