// Package harness runs the real millrace binary for tests: on free ports, in a directory
// of the test's own, ended with the test.
package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Broker is a running broker process.
type Broker struct {
	// Addr is the PLAINTEXT listener, HTTP the one for metrics and health.
	Addr, HTTP string
	// Dir is the data directory.
	Dir string
	// Args are the arguments that it was started with.
	Args []string

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	log  *logTail
}

// startTimeout is generous: a test machine may be busy with other tests.
const startTimeout = 2 * time.Minute

// Binary is the program under test: BROKER_UNDER_TEST, or a fresh build.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("BROKER_UNDER_TEST"); bin != "" {
		return bin
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// build makes the binary once a test process, in the folder of the module that it
// belongs to.
var build = sync.OnceValues(func() (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "cmd", "millrace", "main.go")); err == nil {
			break
		}
		parent := filepath.Dir(root)
		if parent == root {
			return "", errors.New("cmd/millrace is in none of the folders above; set BROKER_UNDER_TEST to a binary")
		}
		root = parent
	}
	bin := filepath.Join(os.TempDir(), fmt.Sprintf("millrace-under-test-%d", os.Getpid()))
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/millrace")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build millrace: %w\n%s", err, out)
	}
	return bin, nil
})

// Start runs a broker in a new directory. overrides are name=value.
func Start(t testing.TB, overrides ...string) *Broker {
	t.Helper()
	return StartIn(t, t.TempDir(), "127.0.0.1:0", overrides...)
}

// StartIn runs a broker on an address and a directory that may have been used by
// another one before. Port 0 is a FreePort, so that the broker finds it free when it is
// started again.
func StartIn(t testing.TB, dir, addr string, overrides ...string) *Broker {
	t.Helper()
	if addr == "127.0.0.1:0" {
		addr = FreePort(t)
	}
	b := &Broker{Dir: dir, t: t, done: make(chan struct{}), log: &logTail{}}
	b.Args = []string{"server",
		"--override", "listeners=PLAINTEXT://" + addr,
		"--override", "http.listener=127.0.0.1:0",
		"--override", "log.dirs=" + dir,
		"--override", "log.format=json",
	}
	for _, o := range overrides {
		b.Args = append(b.Args, "--override", o)
	}
	b.cmd = exec.Command(Binary(t), b.Args...)
	b.cmd.Dir = dir
	pipe, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatalf("start millrace: %v", err)
	}
	ready := make(chan readyLine, 1)
	var reading sync.WaitGroup
	reading.Go(func() { b.log.follow(pipe, ready) })
	go func() {
		reading.Wait() // Wait closes the pipe: everything has been read before
		b.err = b.cmd.Wait()
		close(b.done)
	}()
	t.Cleanup(func() {
		b.Kill()
		if t.Failed() {
			t.Logf("log of the broker:\n%s", b.log.String())
		}
	})
	select {
	case r := <-ready:
		b.Addr, b.HTTP = r.Listeners["PLAINTEXT"], r.HTTP
	case <-b.done:
		t.Fatalf("millrace ended before it was ready: %v\n%s", b.err, b.log.String())
	case <-time.After(startTimeout):
		t.Fatalf("millrace was not ready in %s\n%s", startTimeout, b.log.String())
	}
	return b
}

// Pid is the process id.
func (b *Broker) Pid() int { return b.cmd.Process.Pid }

// Log is what the broker has logged so far: its last few hundred kilobytes.
func (b *Broker) Log() string { return b.log.String() }

// Kill ends the broker at once, as a crash does.
func (b *Broker) Kill() {
	if err := b.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.t.Errorf("kill millrace: %v", err)
	}
	<-b.done
}

// Stop ends the broker as an operator does, and expects it to end well.
func (b *Broker) Stop() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatalf("stop millrace: %v", err)
	}
	select {
	case <-b.done:
		if b.err != nil {
			b.t.Fatalf("millrace ended badly: %v\n%s", b.err, b.log.String())
		}
	case <-time.After(startTimeout):
		b.t.Fatalf("millrace did not stop in %s\n%s", startTimeout, b.log.String())
	}
}

// Wait waits for a broker that ends by itself and answers its exit code; -1 where a
// signal ended it.
func (b *Broker) Wait() int {
	b.t.Helper()
	select {
	case <-b.done:
	case <-time.After(startTimeout):
		b.t.Fatalf("millrace did not end by itself in %s\n%s", startTimeout, b.log.String())
	}
	return b.cmd.ProcessState.ExitCode()
}

// Restart starts the broker again on the same address and directory.
func (b *Broker) Restart(overrides ...string) *Broker {
	b.t.Helper()
	return StartIn(b.t, b.Dir, b.Addr, overrides...)
}

// readyLine is the log line with which the broker says that it serves.
type readyLine struct {
	Msg       string            `json:"msg"`
	Listeners map[string]string `json:"listeners"`
	HTTP      string            `json:"http"`
}

// logTail keeps the last part of a log.
type logTail struct {
	mu   sync.Mutex
	text []byte
}

const keptLog = 256 << 10

func (l *logTail) follow(r io.Reader, ready chan<- readyLine) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		l.add(line)
		var r readyLine
		if json.Unmarshal(line, &r) == nil && r.Msg == "ready" {
			select {
			case ready <- r:
			default:
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *logTail) add(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, line...)
	if over := len(l.text) - keptLog; over > 0 {
		l.text = append(l.text[:0], l.text[over:]...)
	}
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// Run executes the millrace command against a broker and returns what it printed.
func (b *Broker) Run(ctx context.Context, stdin string, args ...string) (stdout string, err error) {
	b.t.Helper()
	cmd := exec.CommandContext(ctx, Binary(b.t), append(args, "--bootstrap-server", b.Addr)...)
	cmd.Stdin = strings.NewReader(stdin)
	var errText strings.Builder
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("millrace %s: %w\n%s", strings.Join(args, " "), err, errText.String())
	}
	return string(out), err
}

// Need skips the test where a command is missing; in CI that is a failure.
func Need(t testing.TB, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed; `make tools` installs it", c)
			}
			t.Skipf("%s is not installed; `make tools` installs it", c)
		}
	}
}

// FreePort is a port on which nobody listened just now. No system gives it to a client or
// to a listener on port 0, so that it stays free: those are above.
func FreePort(t testing.TB) string {
	t.Helper()
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)) //nolint:gosec // any will do
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err == nil {
			_ = l.Close() // only borrowed
			return addr
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}
