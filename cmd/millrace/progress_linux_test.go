package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newTerminal is a terminal, and what a person would see of it.
func newTerminal(t *testing.T) (term, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	term, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.Close() })
	return term, screen
}

// TestProgress: who looks at the error stream sees how far the command is, but not between
// the records.
func TestProgress(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	if code, said := b.run(strings.NewReader("a\nb\n"), io.Discard, "produce", "t"); code != exitOK {
		t.Fatal(said)
	}
	term, screen := newTerminal(t)
	var seen strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"consume", "t", "--from-beginning", "--bootstrap-server", b.seed}, streams{in: strings.NewReader(""), out: io.Discard, err: term})
	}()
	buf := make([]byte, 100)
	for !strings.Contains(seen.String(), "2 records read") {
		n, err := screen.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		seen.Write(buf[:n])
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d", code)
	}

	term, screen = newTerminal(t)
	stop := progress(t.Context(), streams{err: term}, &checked{Writer: term}, func() string {
		t.Error("progress is shown where the records are")
		return ""
	})
	stop()
	if _, err := term.WriteString("end"); err != nil {
		t.Fatal(err)
	}
	if n, err := screen.Read(buf); err != nil || string(buf[:n]) != "end" {
		t.Errorf("the terminal shows %q: %v", buf[:n], err)
	}
}
