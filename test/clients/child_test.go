package clients_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// child is a program of test/java or test/js. It is started with the first command
// and ended with the test; one command is under way at a time.
type child struct {
	// command prepares the program; it runs at most once.
	command func() (*exec.Cmd, error)

	mu     sync.Mutex
	err    error // of starting
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

func newChild(t *testing.T, command func() (*exec.Cmd, error)) *child {
	c := &child{command: command}
	t.Cleanup(c.end)
	return c
}

func (c *child) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil || c.err != nil {
		return
	}
	_ = c.in.Close()         // it ends when there are no more commands,
	_ = c.cmd.Process.Kill() // and has nothing to lose
	_ = c.cmd.Wait()         // killed
}

func (c *child) start() error {
	if c.cmd != nil || c.err != nil {
		return c.err
	}
	c.cmd, c.err = c.command()
	if c.err != nil {
		return c.err
	}
	c.cmd.Stderr = &c.stderr
	if c.in, c.err = c.cmd.StdinPipe(); c.err != nil {
		return c.err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.err = err
		return err
	}
	c.out = bufio.NewReaderSize(out, 1<<20)
	c.err = c.cmd.Start()
	return c.err
}

// run sends a command and hands each line of the answer, but for the last, to line.
func (c *child) run(ctx context.Context, input string, line func(string) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() }) // too late for it: the pipe ends
	defer stop()
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.in, input)
		written <- err
	}()
	err := c.answer(line)
	if err == nil {
		err = <-written
	}
	return errors.Join(err, ctx.Err())
}

func (c *child) answer(line func(string) error) error {
	for {
		text, err := c.out.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s ended: %w", c.cmd.Path, err)
		}
		text = strings.TrimSuffix(text, "\n")
		if text == "ok" {
			return nil
		}
		if reason, ok := strings.CutPrefix(text, "error\t"); ok {
			return errors.New(reason)
		}
		if err := line(text); err != nil {
			return err
		}
	}
}

func noLines(s string) error { return fmt.Errorf("unexpected answer %.100q", s) }

func (c *child) produce(ctx context.Context, addr, topic, codec string, ms []message) error {
	var in strings.Builder
	in.WriteString(strings.Join([]string{"produce", addr, topic, codec, strconv.Itoa(len(ms))}, "\t") + "\n")
	for i := range ms {
		in.WriteString(encodeLine(&ms[i]) + "\n")
	}
	return c.run(ctx, in.String(), noLines)
}

func (c *child) consume(ctx context.Context, addr, topic string, n int) ([]message, error) {
	var ms []message
	err := c.run(ctx, strings.Join([]string{"consume", addr, topic, strconv.Itoa(n)}, "\t")+"\n", func(s string) error {
		m, err := decodeLine(s)
		ms = append(ms, m)
		return err
	})
	return ms, err
}

// count sends the numbers below n, each once, and reports how many are acknowledged.
func (c *child) count(ctx context.Context, addr, topic string, n int, acked func(int)) error {
	return c.run(ctx, strings.Join([]string{"count", addr, topic, strconv.Itoa(n)}, "\t")+"\n", func(s string) error {
		k, ok := strings.CutPrefix(s, "acked\t")
		if !ok {
			return noLines(s)
		}
		v, err := strconv.Atoi(k)
		if err == nil {
			acked(v)
		}
		return err
	})
}

// sendNumbers sends numbers as groupClient wants them.
func (c *child) sendNumbers(ctx context.Context, addr, topic, codec string, first, n int) error {
	var in strings.Builder
	in.WriteString(strings.Join([]string{"send", addr, topic, codec, strconv.Itoa(n)}, "\t") + "\n")
	for i := first; i < first+n; i++ {
		in.WriteString(strconv.Itoa(i%groupPartitions) + "\t" + groupValue(i) + "\n")
	}
	return c.run(ctx, in.String(), noLines)
}
