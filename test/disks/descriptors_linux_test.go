package disks_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/test/harness"
)

// TestDescriptorsRunOut takes a broker's limit of descriptors below what it has open,
// so that it gets no other one: producers are told to try again, or wait, nothing goes
// offline, and all goes on when the limit is as it was. Nothing that was acknowledged is
// lost when the broker is killed then.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := harness.StartIn(t, root, "127.0.0.1:0", "log.flush.interval.messages=1",
		"replica.high.watermark.checkpoint.interval.ms=300", "log.flush.offset.checkpoint.interval.ms=400")
	c := client(t, b)
	size := "1048576"
	create(t, c, 1, map[string]*string{"segment.bytes": &size})
	id := topicID(t, c, topic)
	var acked []string
	n := 0
	wait := time.Minute
	try := func() int16 {
		n++
		k := fmt.Sprint(n)
		code := send(t, c, topic, id, k, wait)
		if code == 0 {
			acked = append(acked, k)
		}
		return code
	}
	for range 10 { // the connection is there, too
		if code := try(); code != 0 {
			t.Fatalf("before: code %d", code)
		}
	}
	var old unix.Rlimit
	if err := unix.Prlimit(b.Pid(), unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(b.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	refused := 0
	wait = 300 * time.Millisecond // for what is acknowledged after the shortage at the earliest
	for range 12 {                // more than a segment
		switch code := try(); code {
		case 0:
		case kerr.KafkaStorageError.Code, kerr.RequestTimedOut.Code:
			refused++
		default:
			t.Errorf("without descriptors: code %d", code)
		}
	}
	if refused == 0 {
		t.Error("nobody was refused, though no segment can be made")
	}
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, 1, nil, "later"); err != nil {
		t.Errorf("a new topic, of which no log can be made: %v", err)
	}
	later := topicID(t, c, "later")
	if code := send(t, c, "later", later, "x", wait); !kerr.IsRetriable(kerr.ErrorForCode(code)) {
		t.Errorf("a topic without a log: code %d", code)
	}
	harness.Eventually(t, "a checkpoint that cannot be written", func() bool { return strings.Contains(b.Log(), "cannot write the checkpoint") })
	wait = time.Minute
	if err := unix.Prlimit(b.Pid(), unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "an acknowledgement", func() bool { return try() == 0 })
	for range 10 {
		if code := try(); code != 0 {
			t.Errorf("after: code %d", code)
		}
	}
	harness.Eventually(t, "the new topic", func() bool { return send(t, c, "later", later, "x", wait) == 0 })
	if offline(t, c, b.Dir) || metric(t, b, "millrace_offline_replicas", "") != 0 {
		t.Errorf("something is offline:\n%s", b.Log())
	}
	has(t, b, 0, acked)
	b.Kill()
	b = b.Restart("log.flush.interval.messages=1")
	has(t, b, 0, acked)
	b.Stop()
}

func topicID(t *testing.T, c *kgo.Client, name string) [16]byte {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil || len(resp.Topics) != 1 {
		t.Fatalf("metadata: %+v, %v", resp, err)
	}
	return resp.Topics[0].TopicID
}

// send produces one record of 300 kB by itself, with acks=all that may take so long, and
// answers the code.
func send(t *testing.T, c *kgo.Client, name string, id [16]byte, key string, wait time.Duration) int16 {
	t.Helper()
	batch, err := record.AppendBatch(nil, record.NewBatchInfo(0, time.Now().UnixMilli()),
		[]record.Record{{Key: []byte(key), Value: make([]byte, 300_000)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, int32(wait.Milliseconds())
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = name, id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := c.Broker(0).Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
}
