package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// full is an output that takes nothing.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

// TestUnprintedIsNotCommitted: records that could not be printed are not committed for
// the group; the next run prints them.
func TestUnprintedIsNotCommitted(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	command := func(in string, out io.Writer, args ...string) (int, string) {
		return b.run(strings.NewReader(in), out, args...)
	}
	if code, said := command("a\nb\n", io.Discard, "produce", "t"); code != exitOK {
		t.Fatalf("produce: %d %s", code, said)
	}
	consume := []string{"consume", "t", "--group", "g", "--from-beginning", "--exit-at-end"}
	if code, said := command("", full{}, consume...); code != exitFailed || !strings.Contains(said, errFull.Error()) {
		t.Errorf("to a full output: %d %s", code, said)
	}
	var out strings.Builder
	if code, said := command("", &out, consume...); code != exitOK {
		t.Errorf("again: %d %s", code, said)
	}
	if out.String() != "a\nb\n" {
		t.Errorf("printed %q in the end, want both records", out.String())
	}
}
