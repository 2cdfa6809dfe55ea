package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// TestLibdeflate lets the plugin compress what is sent to a topic of gzip, and reads it
// with franz-go and kcat.
func TestLibdeflate(t *testing.T) {
	t.Parallel()
	harness.Need(t, "kcat")
	program := filepath.Join(t.TempDir(), "libdeflate")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "libdeflate", "-o", program, "./examples/libdeflate")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		t.Skipf("no C compiler or no libdeflate-dev: %v\n%s", err, out)
	}
	b := harness.Start(t, "plugin.libdeflate.path="+program, "compression.implementation.gzip=libdeflate")
	s := &shell{t, b}
	s.run(done, "", "topics", "create", "t", "--partitions", "1", "--config", "compression.type=gzip")
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumeTopics("t"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	value := strings.Repeat("a line that repeats ", 500)
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := cl.PollFetches(t.Context())
	if rs := got.Records(); got.Err() != nil || len(rs) != 1 || string(rs[0].Value) != value {
		t.Errorf("franz-go reads %d records: %v", len(rs), got.Err())
	} else if rs[0].Attrs.CompressionType() != 1 {
		t.Errorf("the batch is of codec %d, want 1, gzip", rs[0].Attrs.CompressionType())
	}
	out, err := exec.CommandContext(t.Context(), "kcat", "-C", "-q", "-b", b.Addr, "-t", "t", "-o", "beginning", "-e").Output()
	if err != nil || strings.TrimSuffix(string(out), "\n") != value {
		t.Errorf("kcat reads %d bytes: %v", len(out), err)
	}
	if list := millrace(t, done, "", "plugins", "list", "--output", "json", "--http", b.HTTP).Stdout; strings.Contains(list, `"calls": 0,`) {
		t.Errorf("the plugin was not asked:\n%s", list)
	}
}
