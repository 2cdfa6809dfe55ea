// Package corpus_test sends every line of every .go file of the Go distribution, over
// two million records, and reads them back byte for byte, also when the broker is
// killed in the middle.
package corpus_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// minLines is how many records the corpus must have at the least.
const minLines = 2_000_000

const timeout = 5 * time.Minute

// lines visits the lines of the corpus, without their line feeds. kcat sends no
// empty records unless told to send them as null, so empty lines are left out.
func lines(visit func(line []byte) error) error {
	root := filepath.Join(goroot(), "src")
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		in := bufio.NewScanner(f)
		in.Buffer(nil, 8<<20)
		in.Split(func(data []byte, atEOF bool) (int, []byte, error) {
			if i := bytes.IndexByte(data, '\n'); i >= 0 {
				return i + 1, data[:i], nil
			}
			if atEOF && len(data) > 0 {
				return len(data), data, nil
			}
			return 0, nil, nil
		})
		for in.Scan() {
			if len(in.Bytes()) == 0 {
				continue
			}
			if err := visit(in.Bytes()); err != nil {
				return err
			}
		}
		return in.Err()
	})
}

// goroot asks the go command, which may be another one than the test was built with.
func goroot() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return runtime.GOROOT() //nolint:staticcheck // the best guess that is left without a go command
	}
	return strings.TrimSpace(string(out))
}

// sum is the number of lines and a checksum over all of them, in order.
type sum struct {
	n int
	h hash.Hash
}

func newSum() *sum { return &sum{h: sha256.New()} }

func (s *sum) add(line []byte) {
	s.n++
	s.h.Write(line)
	s.h.Write([]byte{'\n'})
}

func (s *sum) String() string { return fmt.Sprintf("%d records, %x", s.n, s.h.Sum(nil)) }

func corpusSum(t *testing.T) string {
	t.Helper()
	s := newSum()
	if err := lines(func(l []byte) error { s.add(l); return nil }); err != nil {
		t.Fatal(err)
	}
	if s.n < minLines {
		t.Fatalf("the corpus has only %d lines", s.n)
	}
	return s.String()
}

func createTopic(ctx context.Context, t *testing.T, b *harness.Broker, topic string, settings ...string) {
	t.Helper()
	args := []string{"topics", "create", topic, "--partitions", "1"}
	for _, s := range settings {
		args = append(args, "--config", s)
	}
	if _, err := b.Run(ctx, "", args...); err != nil {
		t.Fatal(err)
	}
}

// TestKcat sends and reads the corpus with kcat.
func TestKcat(t *testing.T) {
	t.Parallel()
	harness.Need(t, "kcat")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	b := harness.Start(t)
	createTopic(ctx, t, b, "corpus", "segment.bytes=20000000")

	send := exec.CommandContext(ctx, "kcat", "-P", "-b", b.Addr, "-t", "corpus", "-p", "0", "-z", "lz4")
	in, err := send.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	send.Stdout, send.Stderr = &out, &out
	if err := send.Start(); err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(in, 1<<20)
	sendErr := lines(func(l []byte) error {
		_, err := w.Write(append(l[:len(l):len(l)], '\n'))
		return err
	})
	if err := errors.Join(sendErr, w.Flush(), in.Close(), send.Wait()); err != nil {
		t.Fatalf("kcat -P: %v\n%s", err, out.String())
	}
	if got, want := kcatSum(ctx, t, b.Addr), corpusSum(t); got != want {
		t.Errorf("read back %s; sent %s", got, want)
	}
	if got, want := franzSum(ctx, t, b.Addr, "corpus"), corpusSum(t); got != want {
		t.Errorf("franz-go read %s; sent %s", got, want)
	}
}

func kcatSum(ctx context.Context, t *testing.T, addr string) string {
	t.Helper()
	recv := exec.CommandContext(ctx, "kcat", "-C", "-b", addr, "-t", "corpus", "-p", "0", "-o", "beginning", "-e", "-q")
	out, err := recv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errText bytes.Buffer
	recv.Stderr = &errText
	if err := recv.Start(); err != nil {
		t.Fatal(err)
	}
	s := newSum()
	in := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			s.add(bytes.TrimSuffix(line, []byte{'\n'}))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
	}
	if err := recv.Wait(); err != nil {
		t.Fatalf("kcat -C: %v\n%s", err, errText.String())
	}
	return s.String()
}

// TestFranz sends and reads the corpus with franz-go.
func TestFranz(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	b := harness.Start(t)
	createTopic(ctx, t, b, "corpus", "segment.bytes=20000000")
	franzSend(ctx, t, b.Addr, nil)
	if got, want := franzSum(ctx, t, b.Addr, "corpus"), corpusSum(t); got != want {
		t.Errorf("read back %s; sent %s", got, want)
	}
}

// TestKilled kills the broker twice while the corpus is being sent and starts it
// again on the same directory. The producer is idempotent: every record is there
// once, in order.
func TestKilled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	createTopic(ctx, t, b, "corpus", "segment.bytes=20000000")
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next = 300_000
	)
	franzSend(ctx, t, b.Addr, func(acked int) {
		mu.Lock()
		defer mu.Unlock()
		if acked < next || next > 1_000_000 {
			return
		}
		next += 600_000
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			b.Kill()
			b = b.Restart()
		})
	})
	wg.Wait()
	if next < 1_000_000 {
		t.Fatal("the broker was not killed twice")
	}
	if got, want := franzSum(ctx, t, b.Addr, "corpus"), corpusSum(t); got != want {
		t.Errorf("read back %s; sent %s", got, want)
	}
	if out, err := b.Run(ctx, "", "dump-log", "--verify-only", b.Dir+"/corpus-0"); err != nil {
		t.Errorf("dump-log: %v\n%s", err, out)
	}
}

// TestKilledWithoutIdempotence kills the broker and looks for what was acknowledged
// up to then: it must be there, whatever became of the rest.
func TestKilledAcknowledged(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	createTopic(ctx, t, b, "corpus")
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.DefaultProduceTopic("corpus"), kgo.DisableIdempotentWrite(),
		kgo.RecordRetries(0), kgo.RequiredAcks(kgo.LeaderAck()), kgo.UnknownTopicRetries(0), kgo.RecordDeliveryTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var acked atomic.Int64 // offset after the last acknowledged record
	stop := errors.New("enough")
	var once sync.Once
	killed := make(chan struct{})
	err = lines(func(l []byte) error {
		cl.Produce(ctx, kgo.SliceRecord(bytes.Clone(l)), func(r *kgo.Record, err error) {
			if err != nil {
				return
			}
			for old := acked.Load(); r.Offset >= old && !acked.CompareAndSwap(old, r.Offset+1); old = acked.Load() {
			}
			if r.Offset > 200_000 {
				once.Do(func() { go func() { b.Kill(); close(killed) }() })
			}
		})
		select {
		case <-killed:
			return stop
		default:
			return nil
		}
	})
	if !errors.Is(err, stop) {
		t.Fatalf("the broker was not killed: %v", err)
	}
	cl.Close()
	b = b.Restart()
	want, n := newSum(), acked.Load()
	if err := lines(func(l []byte) error {
		if int64(want.n) == n {
			return stop
		}
		want.add(l)
		return nil
	}); err != nil && !errors.Is(err, stop) {
		t.Fatal(err)
	}
	got, err := firstRecords(ctx, b.Addr, "corpus", n)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("read back %s; acknowledged were %s", got, want)
	}
}

// franzSend sends the corpus; acked, if set, is told the number of records that are
// acknowledged so far.
func franzSend(ctx context.Context, t *testing.T, addr string, acked func(int)) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("corpus"), kgo.MaxBufferedRecords(200_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordDeliveryTimeout(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var (
		count atomic.Int64
		first atomic.Pointer[error]
	)
	err = lines(func(l []byte) error {
		cl.Produce(ctx, kgo.SliceRecord(bytes.Clone(l)), func(_ *kgo.Record, err error) {
			if err != nil {
				first.CompareAndSwap(nil, &err)
				return
			}
			if n := count.Add(1); acked != nil {
				acked(int(n))
			}
		})
		if p := first.Load(); p != nil {
			return *p
		}
		return nil
	})
	if err := errors.Join(err, cl.Flush(ctx)); err != nil {
		t.Fatalf("produce: %v", err)
	}
	if p := first.Load(); p != nil {
		t.Fatalf("produce: %v", *p)
	}
}

func franzSum(ctx context.Context, t *testing.T, addr, topic string) string {
	t.Helper()
	n := 0
	if err := lines(func([]byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	s, err := firstRecords(ctx, addr, topic, int64(n))
	if err != nil {
		t.Fatal(err)
	}
	return s.String()
}

// firstRecords reads the first n records of partition 0, and sees that their offsets
// are contiguous.
func firstRecords(ctx context.Context, addr, topic string, n int64) (*sum, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	s := newSum()
	for int64(s.n) < n {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("after %d records: %w", s.n, err)
		}
		var failed error
		fetches.EachError(func(_ string, _ int32, err error) { failed = err })
		fetches.EachRecord(func(r *kgo.Record) {
			if int64(s.n) == n {
				return
			}
			if r.Offset != int64(s.n) && failed == nil {
				failed = fmt.Errorf("record %d has offset %d", s.n, r.Offset)
			}
			s.add(r.Value)
		})
		if failed != nil {
			return nil, failed
		}
	}
	return s, nil
}
