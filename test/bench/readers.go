package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
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

// readCold is a consumer, coldFetch bytes at a time and pace bytes a second, until the context
// ends. It answers the bytes it got.
func readCold(ctx context.Context, addr string, reader int, pace int64) (total int64, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		return 0, err
	}
	defer func() { _ = c.Close() }() // only read from
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	offset := int64(reader/topicPartitions) * 100
	buf := make([]byte, coldFetch+1<<20)
	from := time.Now()
	for ctx.Err() == nil {
		n, next, err := fetchOnce(c, buf, int32(reader%topicPartitions), offset, coldFetch)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return total, err
		}
		total += int64(n)
		if offset = next; n == 0 {
			offset = 0
		}
		if pace > 0 {
			due := from.Add(time.Duration(float64(total) / float64(pace) * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
			}
		}
	}
	return total, nil
}

// fetchOnce asks for size bytes from an offset on, and answers how many came and the
// offset after them.
func fetchOnce(c net.Conn, buf []byte, partition int32, offset int64, size int) (n int, next int64, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(fetchVersion)
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 500, 1, 100<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, offset, int32(size), -1
	req.Topics = []kmsg.FetchRequestTopic{{Topic: "cold", Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	if _, err := c.Write(request(req)); err != nil {
		return 0, 0, err
	}
	if _, err := io.ReadFull(c, buf[:8]); err != nil {
		return 0, 0, err
	}
	length := int(binary.BigEndian.Uint32(buf)) - 4
	if length < 0 || length > len(buf) {
		return 0, 0, fmt.Errorf("a response of %d bytes: %w", length, errResponse)
	}
	if _, err := io.ReadFull(c, buf[:length]); err != nil {
		return 0, 0, err
	}
	var resp kmsg.FetchResponse
	resp.SetVersion(fetchVersion)
	if err := resp.ReadFrom(buf[:length]); err != nil {
		return 0, 0, err
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return 0, 0, fmt.Errorf("error code %d: %w", got.ErrorCode, errResponse)
	}
	next = offset
	for b := range record.Batches(got.RecordBatches).All() {
		next = b.NextOffset()
	}
	return len(got.RecordBatches), next, nil
}
