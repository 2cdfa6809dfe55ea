package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"
)

// bareCommand makes this program the bare server.
const bareCommand = "bare"

// runBare serves until its standard input ends, which ends the process: it understands just the requests
// that the load makes, by their API key and size, and answers with canned headers.
func runBare(args []string) error {
	f := flag.NewFlagSet(bareCommand, flag.ContinueOnError)
	dir := f.String("dir", "", "where to write")
	fetchBytes := f.Int("fetch", 0, "size of a fetch response's records")
	cold := f.Int64("cold", 0, "size of a file that each connection reads through, a cold reader's fetch at a time")
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := &bare{dir: *dir, fetch: *fetchBytes}
	switch {
	case s.fetch > 0:
		// As many bytes as the broker's partitions hold of the answers, so that both
		// servers' data are as warm in the processor's caches.
		_, s.file, err = fetchFile(*dir, int64(s.fetch)*topicPartitions)
	case *cold > 0:
		var batch int64
		batch, s.file, err = fetchFile(*dir, *cold)
		s.fetch = int(coldFetch / batch * batch)
		s.walk = *cold / int64(s.fetch) * int64(s.fetch)
	}
	if err != nil {
		return err
	}
	s.header = fetchHeader(s.fetch)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent does
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go s.serve(c)
	}
}

type bare struct {
	dir   string
	fetch int
	walk  int64 // of the file, by each connection; 0: it answers always the same
	file  *os.File
	// header is what comes before the records in an answer to a fetch, but for the
	// correlation id in it.
	header []byte
	next   atomic.Int32 // of file names
	conns  atomic.Int32
}

// bareFile is the name of the file that fetches are answered from.
const bareFile = "bare-fetch"

// fetchFile makes that file, of at least so many bytes, and answers the size of the
// batches in it.
func fetchFile(dir string, size int64) (batchBytes int64, f *os.File, err error) {
	if f, err = os.Create(filepath.Join(dir, bareFile)); err != nil {
		return 0, nil, err
	}
	b, err := batch(64 << 10)
	if err != nil {
		return 0, nil, err
	}
	for n := int64(0); n < size; n += int64(len(b)) {
		if _, err := f.Write(b); err != nil {
			return 0, nil, err
		}
	}
	return int64(len(b)), f, f.Sync() // what is dirty cannot be forgotten
}

// fetchHeader is a response to a fetch of one partition, up to its records.
func fetchHeader(size int) []byte {
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(fetchVersion)
	t, p := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches = []byte{}
	t.Topic, t.Partitions = "x", append(t.Partitions, p)
	resp.Topics = append(resp.Topics, t)
	out := resp.AppendTo(make([]byte, 8))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4+size))
	binary.BigEndian.PutUint32(out[len(out)-4:], uint32(size)) // the records are what comes last
	return out
}

func (s *bare) serve(c net.Conn) {
	defer func() { _ = c.Close() }() // the client has counted
	err := s.loop(c.(*net.TCPConn))
	gone := errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	if err != nil && !gone {
		fmt.Fprintln(os.Stderr, "bare server:", err)
	}
}

// chunk is how far ahead of the writes space is allocated.
const chunk = 64 << 20

func (s *bare) loop(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(c, 4096)
	var (
		from     = s.start(int64(s.conns.Add(1) - 1))
		buf      = make([]byte, 4<<20)
		file     *os.File
		at, room int64
		head     [128]byte
	)
	for {
		if _, err := io.ReadFull(in, buf[:4]); err != nil {
			return io.EOF
		}
		frame := buf[:binary.BigEndian.Uint32(buf)]
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		key, correlation := binary.BigEndian.Uint16(frame), frame[4:8]
		switch key {
		case 0: // produce: the batch is the end of the frame, but for tags
			if file == nil {
				name := filepath.Join(s.dir, fmt.Sprintf("bare-%d", s.next.Add(1)))
				if file, err = os.Create(name); err != nil {
					return err
				}
				defer func() { _ = file.Close(); _ = os.Remove(name) }() // scratch
			}
			batch := findBatch(frame)
			if crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(batch[17:]) {
				return fmt.Errorf("wrong checksum")
			}
			if at+int64(len(batch)) > room {
				if err := syscall.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, room, chunk); err != nil {
					return err
				}
				room += chunk
			}
			if _, err := file.WriteAt(batch, at); err != nil {
				return err
			}
			at += int64(len(batch))
			if _, err := c.Write(cannedProduce(head[:0], correlation)); err != nil {
				return err
			}
		case 1: // fetch
			if err := s.send(raw, from, head[:0], correlation); err != nil {
				return err
			}
			if s.walk > 0 {
				from = (from + int64(s.fetch)) % s.walk
			}
		case 18:
			out := append(head[:0], 0, 0, 0, 14)
			out = append(out, correlation...)
			out = append(out, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
			if _, err := c.Write(out); err != nil {
				return err
			}
		}
	}
}

// start is where in the file a connection reads first. Those that walk begin at eight
// places in eight groups, as the readers do with the broker's partitions.
func (s *bare) start(conn int64) int64 {
	if s.walk == 0 {
		return conn % topicPartitions * int64(s.fetch)
	}
	partition := s.walk / topicPartitions * (conn % topicPartitions)
	return (partition + conn/topicPartitions*100<<10) / int64(s.fetch) * int64(s.fetch) % s.walk
}

// findBatch finds the records in a produce request of the load: they are the last
// field but for three bytes of tags.
func findBatch(frame []byte) []byte {
	end := len(frame) - 3
	for start := 8; start < 128; start++ {
		b := frame[start:end]
		if len(b) > 61 && binary.BigEndian.Uint64(b) == 0 && int(binary.BigEndian.Uint32(b[8:]))+12 == len(b) && b[16] == 2 {
			return b
		}
	}
	panic("no batch in the frame")
}

// cannedProduce is a response to one topic, named x, with one partition.
func cannedProduce(out, correlation []byte) []byte {
	out = append(out, 0, 0, 0, 0)
	out = append(out, correlation...)
	out = append(out, 0)                  // tags of the header
	out = append(out, 2, 2, 'x', 2)       // one topic x, one partition
	out = append(out, 0, 0, 0, 0)         // partition
	out = append(out, 0, 0)               // no error
	out = append(out, make([]byte, 8)...) // base offset
	out = append(out, make([]byte, 8)...) // append time
	out = append(out, make([]byte, 8)...) // log start
	out = append(out, 1, 0, 0, 0)         // no record errors, no message, tags
	out = append(out, 0, 0, 0, 0, 0)      // throttle, tags
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// send answers a fetch: a header and a range of the file by sendfile.
func (s *bare) send(raw syscall.RawConn, from int64, out, correlation []byte) error {
	out = append(out, s.header...)
	copy(out[4:], correlation)
	var (
		sendErr error
		done    bool
	)
	if err := raw.Write(func(fd uintptr) bool {
		// MSG_MORE: the header shares a packet with the records.
		sendErr = unix.Sendto(int(fd), out, unix.MSG_MORE, nil)
		return sendErr != unix.EAGAIN
	}); err != nil || sendErr != nil {
		return fmt.Errorf("header: %w %w", err, sendErr)
	}
	off, left := from, s.fetch
	for left > 0 && !done {
		if err := raw.Write(func(fd uintptr) bool {
			n, err := unix.Sendfile(int(fd), int(s.file.Fd()), &off, left)
			if n > 0 {
				left -= n
			}
			sendErr = err
			return err != unix.EAGAIN
		}); err != nil {
			return err
		}
		if sendErr != nil {
			return sendErr
		}
	}
	return nil
}
