package cli_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/test/harness"
)

// server is a command line for a broker that must not start.
func server(t *testing.T, dir, addr string, more ...string) []string {
	t.Helper()
	return append([]string{
		"server", "--override", "listeners=PLAINTEXT://" + addr, "--override", "http.listener=127.0.0.1:0",
		"--override", "log.dirs=" + dir,
	}, more...)
}

func TestServerErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "server.properties")
	text := "log.dirs=" + t.TempDir() + "\n\nlog.retention.hourz=3\nnum.network.threads=x\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := millrace(t, usage, "", "server", file)
	says(t, r.Stderr, "server.properties:3: unknown setting log.retention.hourz; did you mean log.retention.hours?")
	says(t, r.Stderr, "server.properties:4: Invalid value x for configuration num.network.threads")
	r = millrace(t, usage, "", "server", "--override", "listenerz=x")
	says(t, r.Stderr, "did you mean listeners?")
	r = millrace(t, usage, "", "server", "no.properties")
	says(t, r.Stderr, "no such file")
	r = millrace(t, usage, "", server(t, t.TempDir(), "127.0.0.1:0", "--override", "storage.engine=floppy")...)
	says(t, r.Stderr, "mmap") // the known ones are listed

	b := harness.Start(t)
	r = millrace(t, failed, "", server(t, t.TempDir(), b.Addr)...)
	says(t, r.Stderr, "address already in use")
	r = millrace(t, failed, "", server(t, b.Dir, "127.0.0.1:0")...)
	says(t, r.Stderr, "in use by another")
	b.Stop() // it was not disturbed
}

// TestProperties starts from a server.properties with settings that Kafka alone
// needs; the command line has the last word. The directory remembers its broker.
func TestProperties(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "server.properties")
	text := "broker.id=3\nnum.network.threads=3\nlog.retention.hours=168\nnum.partitions=5\nzookeeper.connection.timeout.ms=18000\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startServer(t, server(t, dir, "127.0.0.1:0", "--override", "log.format=json", "--override", "num.partitions=2", file)...)
	says(t, p.text, "num.network.threads is a setting of Kafka that Millrace has no use for")
	says(t, p.text, `"broker":3`)
	s := &shell{t, &harness.Broker{Addr: p.addr(t)}}
	s.run(done, "", "topics", "create", "t")
	says(t, s.run(done, "", "topics", "describe", "t").Stdout, "PartitionCount: 2")
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(); code != done {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	r := millrace(t, failed, "", server(t, dir, "127.0.0.1:0", "--override", "broker.id=4")...)
	says(t, r.Stderr, "belongs to broker 3, and this is broker 4: set broker.id=3")
	r = millrace(t, usage, "", server(t, dir, "127.0.0.1:0", "--override", "broker.id=-1")...)
	says(t, r.Stderr, "the log directories belong to broker 3, so set broker.id=3")
	r = millrace(t, usage, "", server(t, t.TempDir(), "127.0.0.1:0", "--override", "broker.id=-1")...)
	says(t, r.Stderr, "set broker.id to a number")
}

// TestGracefulStop ends a broker on which a consumer waits for records: it does not
// wait for long, and the next start finds clean logs.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	s := &shell{t, b}
	s.run(done, "", "topics", "create", "t", "--partitions", "1")
	s.run(done, "x\n", "produce", "t")
	waiting := waitingFetch(t, b, "t")
	start := time.Now()
	b.Stop()
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the broker took %s to stop while a fetch waited", took)
	}
	<-waiting
	if !strings.Contains(b.Log(), `"msg":"stopped"`) {
		t.Errorf("the log does not say that it stopped:\n%s", b.Log())
	}
	if _, err := os.Stat(filepath.Join(b.Dir, ".kafka_cleanshutdown")); err != nil {
		t.Errorf("no marker of a clean shutdown: %v", err)
	}
	s.b = b.Restart()
	s.prints("x\n", "", "consume", "t", "--from-beginning", "-e")
}

// TestSecondSignal: two signals end the broker, one way or the other, and at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	const forced = 130
	p := startServer(t, server(t, t.TempDir(), "127.0.0.1:0", "--override", "log.format=json")...)
	for range 2 {
		p.signal(t, syscall.SIGTERM)
	}
	if code := p.wait(); code != done && code != forced {
		t.Errorf("exit code %d, want %d or %d", code, done, forced)
	}
}

// TestLogClosed: a broker outlives the reader of its log.
func TestLogClosed(t *testing.T) {
	t.Parallel()
	p := startServer(t, server(t, t.TempDir(), "127.0.0.1:0", "--override", "log.format=json")...)
	s := &shell{t, &harness.Broker{Addr: p.addr(t)}}
	if err := p.log.Close(); err != nil {
		t.Fatal(err)
	}
	s.run(done, "x\n", "produce", "t")
	s.prints("x\n", "", "consume", "t", "--from-beginning", "-e")
	p.signal(t, syscall.SIGTERM) // there are lines about that, too
	if code := p.wait(); code != done {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}

// process is a broker that was started with a command line of the test's own.
type process struct {
	cmd  *exec.Cmd
	log  io.ReadCloser
	text string // of the log, up to ready
}

// startServer starts a broker, which must log JSON, and waits until it is ready.
func startServer(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(harness.Binary(t), args...)}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.log = out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // has ended, if all is well
	for buf := make([]byte, 4096); !strings.Contains(p.text, `"msg":"ready"`); {
		n, err := out.Read(buf)
		p.text += string(buf[:n])
		if err != nil {
			t.Fatalf("not ready: %v\n%s", err, p.text)
		}
	}
	return p
}

func (p *process) addr(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`"PLAINTEXT":"([^"]+)"`).FindStringSubmatch(p.text)
	if m == nil {
		t.Fatalf("no address in the log:\n%s", p.text)
	}
	return m[1]
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait returns the exit code.
func (p *process) wait() int {
	_, _ = io.Copy(io.Discard, p.log) // to its end, before Wait closes it
	_ = p.cmd.Wait()                  // the code says it
	return p.cmd.ProcessState.ExitCode()
}

// waitingFetch starts a fetch that waits for records for minutes, and returns a
// channel that is closed when it has ended.
func waitingFetch(t *testing.T, b *harness.Broker, topic string) <-chan struct{} {
	t.Helper()
	// Fetch names topics up to version 12.
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RetryTimeout(0), kgo.RequestRetries(0), kgo.MaxVersions(kversion.V2_8_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 300_000, 1, 1<<20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic = topic
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = 1, 1<<20, -1
	ft.Partitions = append(ft.Partitions, fp)
	req.Topics = append(req.Topics, ft)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = cl.Broker(0).Request(t.Context(), req) // cut off with the broker, or answered
	}()
	for !strings.Contains(b.Metrics(t), `millrace_requests_waiting{operation="Fetch"} 1`) {
		select {
		case <-done:
			t.Fatal("the fetch does not wait")
		case <-time.After(time.Millisecond):
		}
	}
	return done
}
