package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// interrupting is an input during the first Read of which the interrupts come; nothing may
// be read from it afterwards.
type interrupting struct {
	t    *testing.T
	text string
	call []context.CancelFunc
}

func (r *interrupting) Read(b []byte) (int, error) {
	if len(r.call) == 0 {
		r.t.Error("something was read after the interrupt")
		return 0, io.EOF
	}
	for _, call := range r.call {
		call()
	}
	r.call = nil
	return copy(b, r.text), nil
}

// TestProduceInterrupted: what was read before an interrupt is sent, or is said not to be.
func TestProduceInterrupted(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	var lines strings.Builder
	for i := range 1000 {
		fmt.Fprintln(&lines, i)
	}
	for name, tail := range map[string]string{"whole": "", "torn": "tail"} {
		ctx, cancel := context.WithCancel(t.Context())
		in := &interrupting{t, lines.String() + tail, []context.CancelFunc{cancel}}
		code, said := b.runUnder(ctx, streams{in: in, out: io.Discard}, "produce", name)
		if got := strings.Join(b.records(name), "\n") + "\n"; got != lines.String() {
			t.Errorf("%s: %d bytes are in the topic, want the %d that were read", name, len(got), lines.Len())
		}
		switch {
		case tail == "" && (code != exitOK || said != ""):
			t.Errorf("%s: exit code %d: %s", name, code, said)
		case tail != "" && (code != exitFailed || !strings.Contains(said, "1000 records were sent") || !strings.Contains(said, "4 bytes that were read behind line 1000 were not sent")):
			t.Errorf("%s: exit code %d: %s", name, code, said)
		}
	}
}

// TestProduceInterruptedTwice: a second interrupt gives up what is not acknowledged, and
// says so.
func TestProduceInterruptedTwice(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	ctx, cancel := context.WithCancel(t.Context())
	again, giveUp := context.WithCancel(t.Context())
	in := &interrupting{t, "a\nb\n", []context.CancelFunc{cancel, giveUp}}
	code, said := b.runUnder(ctx, streams{in: in, out: io.Discard, again: again}, "produce", "t")
	if code != exitFailed || !strings.Contains(said, errAgain.Error()) || !strings.Contains(said, "0 records were sent") || !strings.Contains(said, "2 bytes that were read behind line 1 were not sent") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// TestProduceFile: from a file that has nothing yet an interrupt returns, and from one that
// has something all is read to its end.
func TestProduceFile(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	if code, said := b.run(strings.NewReader(""), io.Discard, "topics", "create", "t", "--partitions", "1"); code != exitOK {
		t.Fatal(said)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan struct{})
	go func() {
		defer close(cancelled)
		var out strings.Builder // the record is there before the interrupt
		if code, said := b.run(strings.NewReader(""), &out, "consume", "t", "--from-beginning", "-n", "1"); code != exitOK || out.String() != "x\n" {
			t.Errorf("consume: exit code %d: %s%s", code, out.String(), said)
		}
		cancel()
	}()
	if _, err := write.WriteString("x\n"); err != nil {
		t.Fatal(err)
	}
	if code, said := b.runUnder(ctx, streams{in: read, out: io.Discard}, "produce", "t"); code != exitOK {
		t.Errorf("interrupted while it waits: exit code %d: %s", code, said)
	}
	<-cancelled
	if _, err := write.WriteString("y\nz"); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	if code, said := b.run(read, io.Discard, "produce", "t"); code != exitOK {
		t.Errorf("to the end: exit code %d: %s", code, said)
	}
	if got := strings.Join(b.records("t"), ","); got != "x,y,z" {
		t.Errorf("the topic has %s", got)
	}
}

// TestProduceNotSent: the message counts what was not acknowledged and names the line.
func TestProduceNotSent(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	for _, c := range []struct {
		name, in string
		code     int
		words    []string
		flags    []string
		there    string
	}{
		{"large", "a\n" + strings.Repeat("b", 5000) + "\n", exitFailed, []string{"1 were not acknowledged", "line 2", "MESSAGE_TOO_LARGE", "--max-request-size"}, []string{"--max-request-size", "2000"}, "a"},
		{"object", "{\"value\":\"a\"}\n{\"id\":1}\n{\"value\":\"c\"}\n", exitUsage, []string{"1 records were sent", "line 2", `unknown field "id"`, "14 bytes"}, []string{"--json"}, "a"},
		{"nothing", "{}\n", exitUsage, []string{"line 1: no value"}, []string{"--json"}, ""},
		{"null", "null\n", exitUsage, []string{"line 1: no value"}, []string{"--json"}, ""},
		{"two", "{\"value\":\"a\"} {\"value\":\"b\"}\n", exitUsage, []string{"something follows"}, []string{"--json"}, ""},
		{"number", "{\"value\":5}\n", exitUsage, []string{"line 1", "want an object such as"}, []string{"--json"}, ""},
		{"early", "{\"value\":\"x\",\"timestamp\":-5}\n", exitUsage, []string{"timestamp -5"}, []string{"--json"}, ""},
		{"old", "{\"value\":\"x\",\"timestamp\":-1}\n", exitOK, nil, []string{"--json"}, "x"},
		{"tombstone", "{\"key\":\"k\",\"value\":null}\n", exitOK, nil, []string{"--json"}, "null"},
		{"elsewhere", "x\n", exitFailed, []string{"elsewhere-7: partition 7 of 1"}, []string{"--partition", "7"}, ""},
	} {
		if code, said := b.run(strings.NewReader(""), io.Discard, "topics", "create", c.name, "--partitions", "1"); code != exitOK {
			t.Fatal(said)
		}
		code, said := b.run(strings.NewReader(c.in), io.Discard, append([]string{"produce", c.name}, c.flags...)...)
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d: %s", c.name, code, c.code, said)
		}
		for _, words := range c.words {
			if !strings.Contains(said, words) {
				t.Errorf("%s: said %s without %q", c.name, said, words)
			}
		}
		if got := strings.Join(b.records(c.name), ","); c.there != "" && got != c.there {
			t.Errorf("%s: the topic has %s, want %s", c.name, got, c.there)
		}
	}
}

// TestInput: lines come out as they went in, whatever the pieces are in which they are read.
func TestInput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("l", 300<<10)
	text := "a\n\n" + long + "\r\n" + long + "\nend"
	want := []string{"a", "", long + "\r", long, "end"}
	for name, r := range map[string]io.Reader{
		"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)),
		"with the error": iotest.DataErrReader(strings.NewReader(text)), "ended": strings.NewReader(text + "\n"),
	} {
		in, err := newInput(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			line, err := in.next(t.Context())
			if err != nil || string(line) != want[i] {
				t.Fatalf("%s: line %d has %d bytes, want %d: %v", name, i+1, len(line), len(want[i]), err)
			}
		}
		if line, err := in.next(t.Context()); err != io.EOF { //nolint:errorlint // it is not wrapped
			t.Errorf("%s: %q behind the end: %v", name, line, err)
		}
		in.close()
	}
}

// endless is a line without an end.
type endless struct{ reads int }

func (e *endless) Read(b []byte) (int, error) {
	e.reads++
	n := min(len(b), 64<<10)
	for i := range b[:n] {
		b[i] = 'x'
	}
	return n, nil
}

// TestLineTooLong: a line without an end is refused before it has taken all of the memory.
func TestLineTooLong(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	in := &endless{}
	code, said := b.run(in, io.Discard, "produce", "t")
	if code != exitUsage || !strings.Contains(said, "line 1: the line is longer than 64 MiB") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if in.reads > maxLine/(64<<10)+2 {
		t.Errorf("it was read %d times", in.reads)
	}
}
