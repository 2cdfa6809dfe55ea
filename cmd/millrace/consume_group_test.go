package main

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/millrace/millrace/sdk/broker"
)

// full is an output that takes nothing.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

// TestUnprintedIsNotCommitted: records that could not be printed are not committed for
// the group; the next run prints them.
func TestUnprintedIsNotCommitted(t *testing.T) {
	t.Parallel()
	b, err := broker.New(
		broker.WithSetting("log.dirs", t.TempDir()), broker.WithSetting("listeners", "PLAINTEXT://127.0.0.1:0"),
		broker.WithSetting("http.listener", ""), broker.WithSetting("group.initial.rebalance.delay.ms", "0"),
		broker.WithLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	seed := b.Addr("PLAINTEXT").String()
	command := func(in string, out io.Writer, args ...string) (int, string) {
		var said strings.Builder
		code := run(t.Context(), append(args, "--bootstrap-server", seed), streams{strings.NewReader(in), out, &said})
		return code, said.String()
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
