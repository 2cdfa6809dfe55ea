package kafkadir_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

const consumerGroups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

// tools is a virtual machine that runs Kafka's tools, one after the other.
type tools struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

func startTools(ctx context.Context, t *testing.T) *tools {
	t.Helper()
	cmd := java(ctx, classPath(t), "millrace.Tools")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endTools(cmd, in) })
	return &tools{t, in, bufio.NewReader(out)}
}

func endTools(cmd *exec.Cmd, in io.Closer) {
	_ = in.Close()         // it ends when there are no more commands,
	_ = cmd.Process.Kill() // and has nothing to lose
	_ = cmd.Wait()
}

// run returns what the tool prints.
func (k *tools) run(class string, args ...string) (output string, code int) {
	k.t.Helper()
	if _, err := io.WriteString(k.in, strings.Join(append([]string{class}, args...), "\t")+"\n"); err != nil {
		k.t.Fatal(err)
	}
	var s strings.Builder
	for {
		line, err := k.out.ReadString('\n')
		if err != nil {
			k.t.Fatalf("%s ended: %v\n%s", class, err, s.String())
		}
		if n, _ := fmt.Sscanf(line, "exit\t%d\n", &code); n == 1 {
			return s.String(), code
		}
		s.WriteString(line)
	}
}

// groups runs kafka-consumer-groups.sh and expects its output to match patterns.
func (k *tools) groups(addr string, args []string, patterns ...string) {
	k.t.Helper()
	out, _ := k.run(consumerGroups, append([]string{"--bootstrap-server", addr}, args...)...)
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			k.t.Errorf("kafka-consumer-groups.sh %s does not print %q but\n%s", strings.Join(args, " "), p, out)
		}
	}
}

func words(s string) []string { return strings.Fields(s) }

// consumeAll is a member of a group that has read and committed n records.
func consumeAll(ctx context.Context, t *testing.T, addr string, n int) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("orders"), kgo.ClientID("reader"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for n > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		n -= fetches.NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	return cl
}

// offsetsTopic has Kafka's console consumer print the one partition of
// __consumer_offsets that has records.
func (k *tools) offsetsTopic(ctx context.Context, addr string) string {
	k.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		k.t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, "__consumer_offsets")
	if err != nil {
		k.t.Fatal(err)
	}
	var used kadm.ListedOffset
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			used = o
		}
	})
	out, _ := k.run("org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", addr, "--topic", "__consumer_offsets",
		"--partition", fmt.Sprint(used.Partition), "--offset", "earliest", "--max-messages", fmt.Sprint(used.Offset),
		"--formatter", "org.apache.kafka.tools.consumer.OffsetsMessageFormatter")
	return out
}

// Kafka's kafka-consumer-groups.sh lists, describes, resets and deletes groups, and its
// console consumer reads the records of __consumer_offsets. What is committed is still
// there after the broker was killed, and after it was stopped.
func TestKafkasGroupTool(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	k := startTools(ctx, t)
	b := harness.Start(t, "group.initial.rebalance.delay.ms=0")
	if _, err := b.Run(ctx, "", "topics", "create", "orders", "--partitions", "3"); err != nil {
		t.Fatal(err)
	}
	const each = 10
	produceEach(ctx, t, b.Addr, each)
	reader := consumeAll(ctx, t, b.Addr, 3*each)
	group, topic := words("--group readers"), words("--topic orders")
	with := func(args string) []string { return append(words(args), group...) }
	k.groups(b.Addr, words("--list"), `(?m)^readers$`)
	k.groups(b.Addr, words("--list --state"), `readers +Stable`)
	k.groups(b.Addr, with("--describe"),
		`readers +orders +0 +10 +10 +0 +reader-\S+ +/127\.0\.0\.1 +reader`, `readers +orders +2 +10 +10 +0 +reader-\S+ +/127\.0\.0\.1 +reader`)
	k.groups(b.Addr, with("--describe --members --verbose"), `readers +reader-\S+ +/127\.0\.0\.1 +reader +3 +(orders)?\(0,1,2\)`)
	k.groups(b.Addr, with("--describe --state"), `readers +127\.0\.0\.1:\d+ +\(0\) +cooperative-sticky +Stable +1`)
	k.groups(b.Addr, append(with("--reset-offsets --to-earliest --execute"), topic...), `can only be reset if the group 'readers' is inactive`)
	k.groups(b.Addr, with("--delete"), `Group 'readers' could not be deleted.*NonEmpty|GroupNotEmptyException`)
	reader.Close()

	b.Kill()
	b = b.Restart()
	k.groups(b.Addr, with("--describe"), `readers +orders +0 +10 +10 +0 +- `, `readers +orders +1 +10 +10 +0 +- `)
	k.groups(b.Addr, append(with("--reset-offsets --to-offset 4 --execute"), topic...), `readers +orders +0 +4`)
	b.Stop()
	b = b.Restart()
	k.groups(b.Addr, with("--describe"), `readers +orders +0 +4 +10 +6 +- `, `readers +orders +2 +4 +10 +6 +- `)

	out := k.offsetsTopic(ctx, b.Addr)
	for _, want := range []string{`"group":"readers","topic":"orders","partition":0`, `"offset":4,`} {
		if !strings.Contains(out, want) {
			t.Errorf("Kafka's formatter of offsets does not print %s but\n%.3000s", want, out)
		}
	}
	k.groups(b.Addr, with("--delete-offsets --topic orders:0"), `orders +0 +Successful`)
	k.groups(b.Addr, with("--describe"), `readers +orders +1 +4 +10 +6`)
	if out, _ := k.run(consumerGroups, append([]string{"--bootstrap-server", b.Addr}, with("--describe")...)...); strings.Contains(out, "orders          0") {
		t.Errorf("the deleted offset is still there:\n%s", out)
	}
	k.groups(b.Addr, with("--delete"), `Deletion of requested consumer groups \('readers'\) was successful`)
	if out, _ := k.run(consumerGroups, "--bootstrap-server", b.Addr, "--list"); strings.Contains(out, "readers") {
		t.Errorf("the deleted group is listed:\n%s", out)
	}
}

// produceEach sends n records to each partition of orders.
func produceEach(ctx context.Context, t *testing.T, addr string, n int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var records []*kgo.Record
	for i := range 3 * n {
		records = append(records, &kgo.Record{Partition: int32(i % 3), Value: []byte("order")})
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}
