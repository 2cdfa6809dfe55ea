// Package corpus_test sends every line of every .go file of the Go distribution, over
// two million records, and reads them back byte for byte, also when the broker is
// killed in the middle.
package corpus_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

const (
	timeout = 5 * time.Minute
	topic   = "corpus"
	// maxMessage holds the longest line, which is of more than a megabyte.
	maxMessage = "4000000"
)

// createTopic makes the topic with segments so small that there will be several.
func createTopic(ctx context.Context, t *testing.T, b *harness.Broker) {
	t.Helper()
	if _, err := b.Run(ctx, "", "topics", "create", topic, "--partitions", "1",
		"--config", "segment.bytes=20000000", "--config", "max.message.bytes="+maxMessage); err != nil {
		t.Fatal(err)
	}
}

// TestKcat sends and reads the corpus with kcat. Then the broker is killed, and all
// is still there after a restart.
func TestKcat(t *testing.T) {
	t.Parallel()
	harness.Need(t, "kcat")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	want := corpus(t)
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	createTopic(ctx, t, b)
	if err := kcatSend(ctx, b.Addr, "lz4", 0); err != nil {
		t.Fatal(err)
	}
	if got := kcatSum(ctx, t, b.Addr); got != want {
		t.Errorf("kcat read %s; sent %s", got, want)
	}
	b.Kill()
	b = b.Restart()
	checkAll(ctx, t, b)
}

// TestKcatKilled kills the broker while kcat sends the corpus. kcat gives up when
// all brokers are gone; what it was told is acknowledged must be there after a
// restart, and another kcat then sends the rest: in the end the corpus is there once,
// in order.
func TestKcatKilled(t *testing.T) {
	t.Parallel()
	harness.Need(t, "kcat")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	corpus(t)
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	createTopic(ctx, t, b)
	acked := kcatUntilKilled(ctx, t, b, 300_000)
	b = b.Restart()
	end, err := endOffset(ctx, b.Addr)
	if err != nil || end <= acked {
		t.Fatalf("the end offset is %d (%v), and offset %d was acknowledged", end, err, acked)
	}
	if err := kcatSend(ctx, b.Addr, "none", end); err != nil {
		t.Fatal(err)
	}
	checkAll(ctx, t, b)
}

// TestFranz sends and reads the corpus with franz-go.
func TestFranz(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	corpus(t)
	b := harness.Start(t)
	createTopic(ctx, t, b)
	if err := franzSend(ctx, b.Addr, kgo.ZstdCompression(), func(int) {}); err != nil {
		t.Fatal(err)
	}
	checkAll(ctx, t, b)
}

// TestFranzKilled kills the broker twice while franz-go sends the corpus, with an
// idempotent producer, and starts it again: every record is there once, in order.
func TestFranzKilled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	corpus(t)
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	createTopic(ctx, t, b)
	addr := b.Addr
	b = killWhile(t, b, []int{300_000, 1_000_000}, func(progress func(int)) error {
		return franzSend(ctx, addr, kgo.NoCompression(), progress)
	})
	checkAll(ctx, t, b)
}

// TestAcknowledged kills the broker under a producer that sends nothing twice, and
// looks for what was acknowledged up to then: it must be there, whatever became of
// the rest.
func TestAcknowledged(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	createTopic(ctx, t, b)
	acked := sendUntilKilled(ctx, t, b, 200_000)
	b = b.Restart()
	want := newSum()
	if err := lines(func(l []byte) error {
		if int64(want.n) == acked {
			return errEnough
		}
		want.add(l)
		return nil
	}); err != nil && !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	got, err := firstRecords(ctx, b.Addr, acked)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("read back %s; acknowledged were %s", got, want)
	}
}

var errEnough = errors.New("enough")

// sendUntilKilled sends the corpus, kills the broker when so many records are
// acknowledged and returns how many were in the end: one request is under way at a
// time, so they are the first ones.
func sendUntilKilled(ctx context.Context, t *testing.T, b *harness.Broker, enough int64) int64 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.DefaultProduceTopic(topic), kgo.DisableIdempotentWrite(),
		kgo.RecordRetries(0), kgo.RequiredAcks(kgo.LeaderAck()), kgo.MaxProduceRequestsInflightPerBroker(1),
		kgo.ProducerBatchMaxBytes(2<<20), kgo.RecordDeliveryTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var (
		acked  atomic.Int64 // offset after the last acknowledged record
		once   sync.Once
		killed = make(chan struct{})
	)
	err = lines(func(l []byte) error {
		cl.Produce(ctx, kgo.SliceRecord(bytes.Clone(l)), func(r *kgo.Record, err error) {
			if err != nil {
				return
			}
			acked.Store(r.Offset + 1) // the client calls back in order
			if r.Offset > enough {
				once.Do(func() { go func() { b.Kill(); close(killed) }() })
			}
		})
		select {
		case <-killed:
			return errEnough
		default:
			return nil
		}
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("the broker was not killed: %v", err)
	}
	cl.Close()
	return acked.Load()
}

// killWhile kills and restarts the broker whenever send has come past one of the
// numbers, and returns the last broker when send has ended.
func killWhile(t *testing.T, b *harness.Broker, at []int, send func(progress func(int)) error) *harness.Broker {
	t.Helper()
	var progress atomic.Int64
	sent := make(chan error, 1)
	go func() { sent <- send(func(n int) { progress.Store(int64(n)) }) }()
	for _, n := range at {
		for progress.Load() < int64(n) {
			select {
			case err := <-sent:
				t.Fatalf("the producer ended before the broker was killed: %v", err)
			case <-time.After(time.Millisecond):
			}
		}
		b.Kill()
		b = b.Restart()
	}
	if err := <-sent; err != nil {
		t.Fatalf("produce: %v", err)
	}
	return b
}

// checkAll reads the whole topic with franz-go and compares it with the corpus; the
// topic ends where the corpus does, and its files are sound.
func checkAll(ctx context.Context, t *testing.T, b *harness.Broker) {
	t.Helper()
	want, n := corpus(t), corpusLines(t)
	end, err := endOffset(ctx, b.Addr)
	if err != nil || end != n {
		t.Errorf("the end offset is %d (%v) after %d records", end, err, n)
	}
	got, err := firstRecords(ctx, b.Addr, n)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("read back %s; sent %s", got, want)
	}
	b.Stop()
	b.DumpLog(ctx, topic, "--verify-only")
}

// kcatCommand sends standard input, idempotently, so that it stays in order.
func kcatCommand(ctx context.Context, addr, codec string, flags ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "kcat", append([]string{
		"-P", "-b", addr, "-t", topic, "-p", "0", "-z", codec,
		"-X", "message.max.bytes=" + maxMessage, "-X", "enable.idempotence=true",
	}, flags...)...)
}

// feed writes the corpus without its first lines to a command's standard input.
func feed(in io.WriteCloser, skip int64) error {
	w := bufio.NewWriterSize(in, 64<<10)
	n := int64(0)
	err := lines(func(l []byte) error {
		if n++; n <= skip {
			return nil
		}
		if _, err := w.Write(l); err != nil {
			return err
		}
		return w.WriteByte('\n')
	})
	return errors.Join(err, w.Flush(), in.Close())
}

// kcatSend sends the corpus without its first lines.
func kcatSend(ctx context.Context, addr, codec string, skip int64) error {
	cmd := kcatCommand(ctx, addr, codec)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := errors.Join(feed(in, skip), cmd.Wait()); err != nil {
		return fmt.Errorf("kcat -P: %w\n%s", err, out.String())
	}
	return nil
}

// kcatUntilKilled sends the corpus, kills the broker when kcat has an acknowledgement
// for a record from enough on, and returns the last offset that kcat reported.
func kcatUntilKilled(ctx context.Context, t *testing.T, b *harness.Broker, enough int64) int64 {
	t.Helper()
	cmd := kcatCommand(ctx, b.Addr, "none", "-vvv", "-X", "topic.produce.offset.report=true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	report, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var feeding sync.WaitGroup
	feeding.Go(func() { _ = feed(in, 0) }) // fails when kcat gives up, as it should
	acked, killed := int64(-1), false
	var last string
	for text := bufio.NewScanner(report); text.Scan(); {
		last = text.Text()
		var partition, offset int64
		if n, _ := fmt.Sscanf(last, "%% Message delivered to partition %d (offset %d)", &partition, &offset); n == 2 {
			acked = offset
		}
		if acked >= enough && !killed {
			b.Kill()
			killed = true
		}
	}
	_ = cmd.Wait() // it gives up, which is an error
	feeding.Wait()
	if !killed {
		t.Fatalf("kcat ended before the broker was killed: %s", last)
	}
	return acked
}

func kcatSum(ctx context.Context, t *testing.T, addr string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "kcat", "-C", "-b", addr, "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errText strings.Builder
	cmd.Stderr = &errText
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := newSum()
	in := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			s.add(bytes.TrimSuffix(line, []byte{'\n'}))
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		break
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("kcat -C: %v\n%s", err, errText.String())
	}
	return s.String()
}
