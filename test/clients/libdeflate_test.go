package clients_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// TestLibdeflate lets the plugin of examples/libdeflate compress what is sent to a topic of
// gzip in other codecs. Every client reads it, byte for byte.
func TestLibdeflate(t *testing.T) {
	t.Parallel()
	settings := append(groupSettings(), harness.Plugin("libdeflate", libdeflate(t))...)
	b := harness.Start(t, append(settings, "compression.implementation.gzip=libdeflate")...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
	defer cancel()
	const topic = "packed"
	if _, err := b.Run(ctx, "", "topics", "create", topic, "--partitions", "1", "--config", "compression.type=gzip"); err != nil {
		t.Fatal(err)
	}
	producer := franz()
	var want []message
	for i, codec := range []string{"none", "snappy", "lz4", "zstd"} { // what comes as gzip stays as it is
		part := testMessages(uint64(i), time.Now())
		if err := producer.produce(ctx, b.Addr, topic, codec, part); err != nil {
			t.Fatalf("produce: %v", err)
		}
		want = append(want, part...)
	}
	checkDump(ctx, t, b, topic, "gzip")
	clients := slices.DeleteFunc(allClients(t), func(c client) bool { return c.consume == nil })
	for _, c := range append(clients, kafkaJSReader(t)) {
		t.Run(c.id(), func(t *testing.T) {
			harness.Need(t, c.needs...)
			if c.reads != nil && !slices.Contains(c.reads, "gzip") {
				t.Skip("it does not know gzip")
			}
			got, err := c.consume(ctx, b.Addr, topic, len(want))
			if err != nil {
				t.Fatal(err)
			}
			expected := want
			if c.shows != nil {
				expected = mapped(want, c.shows)
			}
			if d := difference(expected, got); d != "" {
				t.Errorf("it got other messages: %s", d)
			}
		})
	}
	r := harness.Millrace(ctx, t, "", "plugins", "list", "--http", b.HTTP, "--output", "json")
	var list []struct{ Calls, Failures, Fallbacks, Nonsense int }
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil || len(list) != 1 {
		t.Fatalf("plugins list: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	// One call a batch, and one batch a codec at the least.
	const batches = 4
	if s := list[0]; s.Calls < batches || s.Failures+s.Fallbacks+s.Nonsense > 0 {
		t.Errorf("it was not the plugin that compressed everything: %+v", s)
	}
}

// libdeflate builds the plugin. Where the library is missing the test is skipped, and fails in CI.
func libdeflate(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "libdeflate")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "libdeflate", "-o", program, "./examples/libdeflate")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	text, err := cmd.CombinedOutput()
	if err == nil {
		return program
	}
	header := exec.CommandContext(t.Context(), "cc", "-include", "libdeflate.h", "-E", "-x", "c", os.DevNull)
	if header.Run() == nil || os.Getenv("CI") == "true" {
		t.Fatalf("%s: %v\n%s", cmd, err, text)
	}
	t.Skip("a C compiler or libdeflate-dev is not installed; `make tools` installs them")
	return ""
}
