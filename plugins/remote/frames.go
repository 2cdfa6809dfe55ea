package remote

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// Frames carry the calls that partitioners are asked with, one after the other on a
// connection of their own, without gRPC: a call costs two writes and two reads. The
// messages are the contract's. docs/plugins/protocol.md has the format.
//
//	question  length(4) number(4) method(1) message
//	answer    length(4) number(4) status code(1) message, or the error's text
//
// Numbers are big-endian. A length counts what comes after it; an answer has the number of
// its question. Who asks closes the connection when the time of a call is over, or its
// context: that is all the other side has to know.
const (
	frameLength = 4
	frameKind   = frameLength + 4 // place of the method, or of the code
	frameStart  = frameKind + 1   // of the message
	leastFrame  = frameStart - frameLength
)

// The methods that go by frames; 0 is none.
const (
	framePartition     byte = 1
	framePartitionKeys byte = 2
)

// frameMethod is the number of a gRPC method; 0 for one that does not go by frames.
func frameMethod(name string) byte {
	switch name {
	case pb.Partitioner_Partition_FullMethodName:
		return framePartition
	case pb.Partitioner_PartitionKeys_FullMethodName:
		return framePartitionKeys
	default:
		return 0
	}
}

// maxFrames bounds the connections for frames to one process, and so the calls that are
// under way by frames. Calls beyond it go by gRPC.
const maxFrames = 16

// maxQuestion bounds a question, as gRPC's messages are.
const maxQuestion = math.MaxInt32

// maxAnswer bounds the answer to a question of n bytes: a record takes at least a byte of
// the question, and its partition at most five of the answer.
func maxAnswer(n int) int { return 64<<10 + 8*n }

// frameBuffer is what a connection reads ahead; keptBuffer is the most that it keeps of
// a large frame.
const (
	frameBuffer = 32 << 10
	keptBuffer  = 1 << 20
)

// readFrame reads a frame of at most most bytes, without its length, into buf, which it may
// replace. It reserves no more than what comes, to a step: a length alone costs no memory.
func readFrame(r io.Reader, buf []byte, most int) ([]byte, error) {
	if cap(buf) > keptBuffer {
		buf = nil
	}
	buf = slices.Grow(buf[:0], frameLength)[:frameLength]
	if _, err := io.ReadFull(r, buf); err != nil {
		return buf[:0], fmt.Errorf("read the length of a frame: %w", err)
	}
	n := int64(binary.BigEndian.Uint32(buf))
	if n < leastFrame || n > int64(most) {
		return buf[:0], fmt.Errorf("%w: a frame of %d bytes, where %d to %d may come", ErrNonsense, n, leastFrame, most)
	}
	const step = 1 << 20
	for buf = buf[:0]; len(buf) < int(n); {
		had := len(buf)
		next := min(int(n)-had, step)
		buf = slices.Grow(buf, next)[:had+next]
		if _, err := io.ReadFull(r, buf[had:]); err != nil {
			return buf[:0], fmt.Errorf("read a frame of %d bytes: %w", n, err)
		}
	}
	return buf, nil
}

// beginFrame begins a frame in buf, which it may replace: the message is appended to it.
func beginFrame(buf []byte, number uint32, kind byte) []byte {
	if cap(buf) > keptBuffer {
		buf = nil
	}
	buf = append(buf[:0], 0, 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(buf, number), kind)
}

// endFrame sets the length of a frame.
func endFrame(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-frameLength))
	return frame
}

// openFrame takes apart what readFrame has read.
func openFrame(frame []byte) (number uint32, kind byte, message []byte) {
	return binary.BigEndian.Uint32(frame), frame[leastFrame-1], frame[leastFrame:]
}
