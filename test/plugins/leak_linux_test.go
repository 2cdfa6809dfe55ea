package plugins_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// TestRestartsLeakNothing counts the broker's descriptors over many restarts of a plugin,
// whose partitioner is asked between them: by frames, for which each has sockets of its own.
func TestRestartsLeakNothing(t *testing.T) {
	t.Parallel()
	b := start(t, "")
	create(t, b, "frames", 3, map[string]string{"partitioner": "test-partitioner"})
	open := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	restart := func() {
		if r := harness.Millrace(t.Context(), t, "", "plugins", "restart", "t", "--http", b.HTTP); r.Code != 0 {
			t.Fatalf("plugins restart: %s", r.Stderr)
		}
		produce(t, b, "frames", []string{"a", "b"})
	}
	restart()
	before := open()
	const restarts, slack = 20, 10 // connections of this test may be open still
	for range restarts {
		restart()
	}
	harness.Eventually(t, "the descriptors are as many as before", func() bool { return open() < before+slack })
}
