package plugins_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// TestProduce: millrace produce places keys with the plugin where the broker's guard,
// which asks its own process of the same program, wants them.
func TestProduce(t *testing.T) {
	t.Parallel()
	b := start(t, "")
	create(t, b, "guarded", 8, map[string]string{"partitioner": "test-partitioner", "partitioner.guard": "reject"})
	var in strings.Builder
	const n = 200
	for i := range n {
		fmt.Fprintf(&in, "key-%d\tvalue-%d\n", i, i)
	}
	with := func(code int, says string, args ...string) {
		t.Helper()
		r := harness.Millrace(t.Context(), t, in.String(), append([]string{"produce", "guarded", "--parse-key", "--bootstrap-server", b.Addr}, args...)...)
		if r.Code != code || !strings.Contains(r.Stderr, says) {
			t.Errorf("%v: exit code %d, want %d and %q in\n%s", args, r.Code, code, says, r.Stderr)
		}
	}
	with(0, "", "--plugin", "t="+program(t), "--partitioner", "test-partitioner")
	with(1, "", "--partitioner", "fnv1a") // elsewhere: the guard refuses
	with(2, "NAME=PATH", "--plugin", "t")
	with(2, "millrace plugins verify", "--plugin", "t=/bin/true")
	got := values(t, b, "guarded", n)
	for i := range n {
		if _, ok := got[fmt.Sprintf("value-%d", i)]; !ok {
			t.Errorf("record %d is lost", i)
		}
	}
}
