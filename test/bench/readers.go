package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// coldReaderCount is how many cold readers there are.
const coldReaderCount = 64

// readersCommand makes this program the cold readers. They are a process of their own,
// because what is measured is the broker's share of the processors, not which of its
// goroutines the measuring program runs first.
const readersCommand = "cold-readers"

// readers are the cold readers at work.
type readers struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

func startReaders(ctx context.Context, addr string, pace int64) (*readers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	r := &readers{cmd: exec.CommandContext(ctx, self, readersCommand, addr, strconv.FormatInt(pace, 10))}
	r.cmd.Stderr = os.Stderr
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the readers: %w", err)
	}
	return r, nil
}

// stop ends them and answers how many bytes they have read.
func (r *readers) stop() (int64, error) {
	_ = r.stdin.Close() // what ends them
	line, readErr := r.out.ReadString('\n')
	if err := r.cmd.Wait(); err != nil {
		return 0, fmt.Errorf("the readers: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the readers printed %q: %w", line, errors.Join(readErr, err))
	}
	return n, nil
}

// runReaders is the readers' main: they read until standard input ends, and print how
// many bytes they got.
func runReaders(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s: want ADDRESS and PACE", readersCommand)
	}
	pace, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is all that matters
		stop()
	}()
	var wg sync.WaitGroup
	var read [coldReaderCount]int64
	var errs [coldReaderCount]error
	for i := range read {
		wg.Go(func() { read[i], errs[i] = readCold(ctx, args[0], i, pace) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	var sum int64
	for _, n := range read {
		sum += n
	}
	_, err = fmt.Println(sum)
	return err
}
