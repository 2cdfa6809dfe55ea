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
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := &bare{dir: *dir, fetch: *fetchBytes}
	if s.fetch > 0 {
		if s.file, err = fetchFile(*dir, s.fetch); err != nil {
			return err
		}
	}
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
	file  *os.File
	next  atomic.Int32 // of file names
	conns atomic.Int32
}

func fetchFile(dir string, size int) (*os.File, error) {
	f, err := os.Create(filepath.Join(dir, "bare-fetch"))
	if err != nil {
		return nil, err
	}
	b, err := batch(64 << 10)
	if err != nil {
		return nil, err
	}
	// As many bytes as the broker's partitions hold of the answers, so that both
	// servers' data are as warm in the processor's caches.
	for n := 0; n < size*topicPartitions; n += len(b) {
		if _, err := f.Write(b); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (s *bare) serve(c net.Conn) {
	defer func() { _ = c.Close() }() // the client has counted
	if err := s.loop(c.(*net.TCPConn)); err != nil && !errors.Is(err, io.EOF) {
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
		from     = int64(s.conns.Add(1)-1) % topicPartitions * int64(s.fetch)
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
	const header = 50 // about that of a response with one partition
	out = append(out, make([]byte, 8+header)...)
	binary.BigEndian.PutUint32(out, uint32(4+header+s.fetch))
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
