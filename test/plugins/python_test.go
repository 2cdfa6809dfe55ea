package plugins_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/sdk/plugintest"
	"github.com/millrace/millrace/test/harness"
)

// offset is the setting of examples/python.
const offset = "partitioner.numbers.offset"

// buildPython builds examples/python once a test process, as its README says.
var buildPython = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../examples/python")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "target", "numbers.pyz")
	if out, err := exec.Command(filepath.Join(dir, "build.sh"), program).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build examples/python: %w\n%s", err, out)
	}
	return program, nil
})

func python(t *testing.T) string {
	t.Helper()
	harness.Need(t, "python3")
	program, err := buildPython()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestPythonContract holds the contract against a program that has nothing of the SDK: the
// same kit as for plugins in Go, behind the broker's own host.
func TestPythonContract(t *testing.T) {
	plugintest.Run(t, plugintest.Options{Program: python(t), Settings: map[string]string{offset: "3"}})
}

func TestPythonVerify(t *testing.T) {
	t.Parallel()
	program := python(t)
	r := harness.Millrace(t.Context(), t, "", "plugins", "verify", program)
	if r.Code != 0 {
		t.Errorf("verify: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	settings := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(settings, []byte(offset+"=-1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r = harness.Millrace(t.Context(), t, "", "plugins", "verify", program, "--settings", settings)
	if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, offset+": want 0 or more") {
		t.Errorf("verify with a bad setting: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// TestPythonPlaces lets a broker place records by the plugin, and ends it as an operator
// does: the plugin has to end by itself, before it is killed.
func TestPythonPlaces(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, "plugin.t.path="+python(t), offset+"=3", "http.produce.enable=true")
	pid := b.PluginStatus(t).PID
	create(t, b, "numbered", 16, map[string]string{"partitioner": "numbers", "partitioner.guard": "reject"})
	keys := []string{"0", "1", "12", "13", "14", "4711", "key-7", "key 8", "-5"}
	for i, got := range produce(t, b, "numbered", keys) {
		want := int(crc32.ChecksumIEEE([]byte(keys[i])) % 16)
		if n, err := strconv.ParseUint(keys[i], 10, 32); err == nil {
			want = int((n + 3) % 16)
		}
		if got != want {
			t.Errorf("key %q lies in partition %d, want %d", keys[i], got, want)
		}
	}
	if s := b.PluginStatus(t); s.State != "running" || s.Calls == 0 || s.Failures+s.Fallbacks > 0 {
		t.Errorf("plugins list says %+v", s)
	}
	b.Stop()
	if !gone(pid) {
		t.Errorf("the plugin's process %d outlives its broker", pid)
	}
	var line struct{ Msg, Plugin, Level string }
	for text := range strings.Lines(b.Log()) {
		if strings.Contains(text, "the plugin has ended") && json.Unmarshal([]byte(text), &line) == nil {
			break
		}
	}
	if line.Plugin != "t" || !strings.EqualFold(line.Level, "info") {
		t.Errorf("the plugin's last line is not in the broker's log with its level, %+v: was it killed?\n%s", line, b.Log())
	}
}

func TestPythonBrokerKilled(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, "plugin.t.path="+python(t))
	pid := b.PluginStatus(t).PID
	if gone(pid) {
		t.Fatalf("process %d, which plugins list shows, does not run", pid)
	}
	b.Kill()
	harness.Eventually(t, "the plugin is gone", func() bool { return gone(pid) })
}

// TestPythonLifeline starts the plugin without a broker, to see that the lifeline and the
// signal each end it alone, and what it has started too.
func TestPythonLifeline(t *testing.T) {
	t.Parallel()
	program := python(t)
	for name, end := range map[string]func(*os.Process, *os.File) error{
		"lifeline": func(_ *os.Process, lifeline *os.File) error { return lifeline.Close() },
		"SIGTERM":  func(p *os.Process, _ *os.File) error { return p.Signal(unix.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endsPython(t, program, end)
		})
	}
}

func endsPython(t *testing.T, program string, end func(*os.Process, *os.File) error) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(pair[0])
	unix.CloseOnExec(pair[1])
	ours, theirs := os.NewFile(uintptr(pair[0]), "lifeline"), os.NewFile(uintptr(pair[1]), "lifeline")
	defer func() { _ = ours.Close() }() // again
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Env = []string{
		"MILLRACE_PLUGIN=b7d0a1f2-millrace-takes-itself-apart", "PLUGIN_PROTOCOL_VERSIONS=1",
		"MILLRACE_PLUGIN_LIFELINE=3", "PLUGIN_UNIX_SOCKET_DIR=" + t.TempDir(),
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close() // theirs now
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "1|1|unix|/") || !strings.HasSuffix(line, "|grpc|\n") {
		t.Errorf("the handshake is %q: %v", line, err)
	}
	// A process of its group, as if it had been started by it.
	child := exec.CommandContext(ctx, "sleep", "3600")
	child.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pgid: cmd.Process.Pid}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := end(cmd.Process, ours); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*exec.Cmd{cmd, child} {
		if err := c.Wait(); err == nil || ctx.Err() != nil {
			t.Errorf("%s ended with %v, want SIGKILL to its group", c.Path, err)
		}
	}
}

func TestPythonByHand(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), python(t))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "plugin.NAME.path") {
		t.Errorf("started by hand it says %q: %v", out, err)
	}
}

// produce sends a record for each key over HTTP and returns their partitions.
func produce(t *testing.T, b *harness.Broker, topic string, keys []string) []int {
	t.Helper()
	type record struct {
		Key       string `json:"key,omitempty"`
		Value     string `json:"value,omitempty"`
		Partition int    `json:"partition,omitempty"`
		Error     string `json:"error,omitempty"`
	}
	var batch struct {
		Records []record `json:"records"`
	}
	for _, k := range keys {
		batch.Records = append(batch.Records, record{Key: k, Value: "v"})
	}
	body, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+b.HTTP+"/topics/"+topic+"/records", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // only read
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v\n%s", resp.Status, err, text)
	}
	batch.Records = nil
	if err := json.Unmarshal(text, &batch); err != nil || len(batch.Records) != len(keys) {
		t.Fatalf("%d records were answered with %v: %s", len(keys), err, text)
	}
	var out []int
	for _, r := range batch.Records {
		out = append(out, r.Partition)
	}
	return out
}
