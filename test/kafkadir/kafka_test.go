// Package kafkadir has Kafka judge the directories that Millrace writes, and Millrace
// take over those that Kafka has written; Kafka's tools work on a running Millrace. The
// judge is Kafka 3.9's own code, fetched by Maven.
package kafkadir_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// classPath fetches Kafka, unless an earlier run has, and compiles the classes.
func classPath(t *testing.T) string {
	t.Helper()
	harness.Need(t, "java", "javac", "mvn")
	cp, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

// build does so once in a process.
var build = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs(".")
	if err != nil {
		return "", err
	}
	lib, classes := filepath.Join(root, "target", "lib"), filepath.Join(root, "target", "classes")
	pom, err := os.ReadFile(filepath.Join(root, "pom.xml"))
	if err != nil {
		return "", err
	}
	if done, err := os.ReadFile(filepath.Join(lib, "complete")); err != nil || !bytes.Equal(done, pom) {
		if err := fetch(root, lib, pom); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(classes, 0o755); err != nil {
		return "", err
	}
	compile := exec.Command("javac", "-nowarn", "-d", classes, "-cp", lib+"/*",
		filepath.Join(root, "src/main/java/millrace/KafkaWithZooKeeper.java"), filepath.Join(root, "src/main/java/millrace/Tools.java"))
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("javac: %w\n%s", err, out)
	}
	return classes + string(os.PathListSeparator) + lib + "/*", nil
})

// fetch tries Maven's own store first, and the network when that is not enough.
func fetch(root, lib string, pom []byte) error {
	var failed error
	for _, online := range []bool{false, true} {
		args := []string{
			"-q", "-B", "-f", filepath.Join(root, "pom.xml"), "dependency:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory=" + lib,
		}
		if !online {
			args = append(args, "-o")
		}
		out, err := exec.Command("mvn", args...).CombinedOutput()
		if err == nil {
			return os.WriteFile(filepath.Join(lib, "complete"), pom, 0o644)
		}
		failed = fmt.Errorf("mvn cannot fetch Kafka: %w\n%s", err, out)
	}
	return failed
}

// java makes a command of a small virtual machine; log4j.properties of this package
// makes it log to standard output.
func java(ctx context.Context, cp string, args ...string) *exec.Cmd {
	root, err := filepath.Abs("log4j.properties")
	if err != nil {
		root = "log4j.properties" // the tests run in their own folder
	}
	return exec.CommandContext(ctx, "java", append([]string{
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dlog4j.configuration=file:" + root, "-cp", cp,
	}, args...)...)
}

// dumpLogSegments has Kafka's tool print files, and returns what it printed.
func dumpLogSegments(t *testing.T, files []string, flags ...string) string {
	t.Helper()
	cp := classPath(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := java(ctx, cp, append([]string{"kafka.tools.DumpLogSegments", "--files", strings.Join(files, ",")}, flags...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("DumpLogSegments %s: %v\n%s", strings.Join(flags, " "), err, out)
	}
	return string(out)
}

// kafka is a running Kafka broker with its ZooKeeper.
type kafka struct {
	addr string
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu  sync.Mutex
	log strings.Builder
}

const kafkaStart = 5 * time.Minute

// startKafka runs Kafka over a directory; home is where its ZooKeeper and its
// configuration live from one start to the next.
func startKafka(t *testing.T, home, dir string) *kafka {
	t.Helper()
	return startKafkaOver(t, home, dir, nil)
}

// startKafkaOver puts nodes into ZooKeeper first, and adds settings to the broker's.
func startKafkaOver(t *testing.T, home, dir string, nodes []string, settings ...string) *kafka {
	t.Helper()
	cp := classPath(t)
	zkPort, port := harness.FreePort(t), harness.FreePort(t)
	k := &kafka{addr: port, t: t, done: make(chan struct{})}
	config := strings.Join(append([]string{
		"broker.id=7",
		"listeners=PLAINTEXT://" + k.addr,
		"zookeeper.connect=" + zkPort,
		"log.dirs=" + dir,
		"num.partitions=1",
		"auto.create.topics.enable=false",
		"offsets.topic.num.partitions=2",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.num.partitions=2",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		"log.cleaner.dedupe.buffer.size=4194304",
		"num.network.threads=2",
		"num.io.threads=2",
		"background.threads=2",
	}, settings...), "\n")
	zk := filepath.Join(home, "zookeeper")
	if err := os.MkdirAll(zk, 0o755); err != nil {
		t.Fatal(err)
	}
	properties := filepath.Join(home, "server.properties")
	if err := os.WriteFile(properties, []byte(config+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"millrace.KafkaWithZooKeeper", zk, zkPort[strings.LastIndexByte(zkPort, ':')+1:], properties}
	if len(nodes) > 0 {
		file := filepath.Join(home, "nodes")
		if err := os.WriteFile(file, []byte(strings.Join(nodes, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	k.cmd = java(context.Background(), cp, args...)
	pipe, err := k.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.cmd.Stderr = k.cmd.Stdout
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		in := bufio.NewScanner(pipe)
		in.Buffer(nil, 1<<20)
		once := sync.Once{}
		for in.Scan() {
			k.mu.Lock()
			k.log.WriteString(in.Text() + "\n")
			k.mu.Unlock()
			if strings.Contains(in.Text(), "started (kafka.server.KafkaServer)") {
				once.Do(func() { close(ready) })
			}
		}
		k.err = k.cmd.Wait()
		close(k.done)
	}()
	t.Cleanup(func() {
		if err := k.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("kill Kafka: %v", err)
		}
		<-k.done
		if t.Failed() {
			t.Logf("log of Kafka:\n%s", k.text())
		}
	})
	select {
	case <-ready:
	case <-k.done:
		t.Fatalf("Kafka ended before it was ready: %v\n%s", k.err, k.text())
	case <-time.After(kafkaStart):
		t.Fatalf("Kafka was not ready in %s\n%s", kafkaStart, k.text())
	}
	return k
}

func (k *kafka) text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.log.String()
}

// stop ends Kafka as an operator does.
func (k *kafka) stop() {
	k.t.Helper()
	if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		k.t.Fatal(err)
	}
	select {
	case <-k.done:
	case <-time.After(kafkaStart):
		k.t.Fatalf("Kafka did not stop in %s\n%s", kafkaStart, k.text())
	}
	if !strings.Contains(k.text(), "shut down completed (kafka.server.KafkaServer)") {
		k.t.Fatalf("Kafka did not shut down cleanly: %v\n%s", k.err, k.text())
	}
}

// skipsRecovery expects that Kafka takes the directory for one that was left cleanly.
func (k *kafka) skipsRecovery() {
	k.t.Helper()
	if !strings.Contains(k.text(), "since clean shutdown file was found") {
		k.t.Error("Kafka has recovered the logs: it does not believe that the directory was left cleanly")
	}
}

// complaint is what Kafka logs of a directory that it does not like.
var complaint = regexp.MustCompile(`(?i)(found invalid|corrupt|rebuil|unclean|Recovering unflushed|non-monotonic|truncat\w+ (to|log|of)|stray|mismatch|sanity|malformed|not match|WARN .*\.log\.|ERROR)`)

// complaints are the lines of Kafka's log that say that something was wrong with the
// directory.
func (k *kafka) complaints() []string {
	var out []string
	for line := range strings.Lines(k.text()) {
		line = strings.TrimSpace(line)
		if complaint.MatchString(line) && !harmless(line) {
			out = append(out, line)
		}
	}
	return out
}

// harmless lines have a word of complaint in the name of a setting, or announce the
// loading of a producer snapshot, which Kafka does at each start.
func harmless(line string) bool {
	if strings.Contains(line, "Reloading from producer snapshot and rebuilding producer state from offset") {
		return true
	}
	name, _, isSetting := strings.Cut(line, " = ")
	return isSetting && !strings.Contains(strings.TrimSpace(name), " ")
}
