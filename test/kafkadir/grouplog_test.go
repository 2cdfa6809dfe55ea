package kafkadir_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// TestKafkaDecodesGroupRecords has Kafka's tool decode what groups of both protocols
// have left in the log of __consumer_offsets.
func TestKafkaDecodesGroupRecords(t *testing.T) {
	t.Parallel()
	classPath(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b := harness.Start(t, "broker.id=7", "offsets.topic.num.partitions=2", "group.initial.rebalance.delay.ms=0")
	cl := client(t, b.Addr)
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 3, 1, nil, "work"); err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	for i := range 15 {
		records = append(records, &kgo.Record{Topic: "work", Value: fmt.Append(nil, i)})
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	readAsGroup(ctx, t, b.Addr, "classic-group")
	readAsGroup(ctx, t, b.Addr, "modern-group", kgo.ServerSideBalancer())
	readAsGroup(ctx, t, b.Addr, "regex-group", kgo.ServerSideBalancer(), kgo.ConsumeRegex())
	b.Stop()
	var logs []string
	for _, f := range files(t, b.Dir, ".log") {
		if strings.HasPrefix(filepath.Base(filepath.Dir(f)), "__consumer_offsets-") {
			logs = append(logs, f)
		}
	}
	out := dumpLogSegments(t, logs, "--offsets-decoder")
	for _, want := range []string{
		`{"type":"1","data":{"group":"classic-group","topic":"work","partition":`,
		`{"type":"1","data":{"group":"modern-group","topic":"work","partition":`,
		`{"type":"2","data":{"group":"classic-group"}}`, `"protocol":"cooperative-sticky"`, `"clientHost":"/127.0.0.1"`,
		`{"type":"3","data":{"groupId":"modern-group"}}`, `{"version":"0","data":{"epoch":1`,
		`{"type":"5","data":{"groupId":"modern-group","memberId":"`, `"subscribedTopicNames":["work"]`,
		`{"type":"6","data":{"groupId":"modern-group"}}`, `"assignmentEpoch":1`,
		`{"type":"7","data":{"groupId":"modern-group","memberId":"`,
		`{"type":"8","data":{"groupId":"modern-group","memberId":"`, `"previousMemberEpoch":0`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("Kafka's dump does not show %s:\n%.9000s", want, out)
			break
		}
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "could not be decoded") || strings.Contains(line, "Failed to decode") {
			t.Errorf("Kafka's dump: %s", line)
		}
	}
}

// readAsGroup reads the 15 records of topic work in a group, and commits.
func readAsGroup(ctx context.Context, t *testing.T, addr, group string, opts ...kgo.Opt) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.ConsumerGroup(group), kgo.ConsumeTopics("work"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for n := 0; n < 15; {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s has read %d of 15 records", group, n)
		}
		n += fs.NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
}
