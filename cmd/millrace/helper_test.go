package main

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/millrace/millrace/sdk/broker"
)

// local is a broker in this process, to run commands against.
type local struct {
	t    *testing.T
	seed string
}

func newLocal(t *testing.T) *local {
	t.Helper()
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
	t.Cleanup(func() {
		if err := b.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &local{t, b.Addr("PLAINTEXT").String()}
}

// run executes a command, and returns its exit code and what it said.
func (l *local) run(in io.Reader, out io.Writer, args ...string) (int, string) {
	return l.runUnder(l.t.Context(), streams{in: in, out: out}, args...)
}

// runUnder executes a command that ctx, or the streams, may interrupt.
func (l *local) runUnder(ctx context.Context, io streams, args ...string) (int, string) {
	var said strings.Builder
	io.err = &said
	code := run(ctx, append(args, "--bootstrap-server", l.seed), io)
	return code, said.String()
}

// records are the values of a topic's records, in order when it has one partition.
func (l *local) records(topic string) []string {
	l.t.Helper()
	var out strings.Builder
	if code, said := l.run(strings.NewReader(""), &out, "consume", topic, "--from-beginning", "--exit-at-end"); code != exitOK {
		l.t.Fatalf("consume %s: exit code %d: %s", topic, code, said)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}
