package replica

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

// epochsBlob is the name of Kafka's file of leader epochs.
const epochsBlob = "leader-epoch-checkpoint"

// undefined is the epoch and the offset that stand for "not known" in answers to
// OffsetForLeaderEpoch.
const undefined = -1

// epochEntry says that a leader epoch began at an offset.
type epochEntry struct {
	epoch int32
	start int64
}

// epochCache is the history of leader epochs of one log: epochs and offsets both
// grow. It is immutable: changes make a new one.
type epochCache []epochEntry

// latest is the newest epoch; undefined when there is none.
func (c epochCache) latest() int32 {
	if len(c) == 0 {
		return undefined
	}
	return c[len(c)-1].epoch
}

// assign says that epoch begins at start. Entries that this contradicts (a later
// start or a higher epoch) were of a history that was cut off and go. A known epoch
// at or after its start changes nothing. changed is false then.
func (c epochCache) assign(epoch int32, start int64) (next epochCache, changed bool) {
	if n := len(c); n > 0 {
		last := c[n-1]
		if last.epoch == epoch && last.start <= start {
			return c, false
		}
	}
	keep := len(c)
	for keep > 0 && (c[keep-1].epoch >= epoch || c[keep-1].start >= start) {
		keep--
	}
	return append(slices.Clip(c[:keep:keep]), epochEntry{epoch, start}), true
}

// truncateEnd forgets the epochs that begin at or after end.
func (c epochCache) truncateEnd(end int64) (next epochCache, changed bool) {
	keep := len(c)
	for keep > 0 && c[keep-1].start >= end {
		keep--
	}
	return c[:keep:keep], keep != len(c)
}

// truncateStart forgets the epochs that end at or before start; the one in which
// start lies begins there from now on.
func (c epochCache) truncateStart(start int64) (next epochCache, changed bool) {
	drop := 0
	for drop+1 < len(c) && c[drop+1].start <= start {
		drop++
	}
	if len(c) == 0 || c[drop].start >= start {
		// An epoch that begins later than the log is left as it is.
		if drop == 0 {
			return c, false
		}
		return slices.Clone(c[drop:]), true
	}
	next = slices.Clone(c[drop:])
	next[0].start = start
	return next, true
}

// endOf answers where an epoch ended: the start of the next higher one, or end, the
// log's, for the latest. The epoch of the answer is the highest known one up to
// that asked for; below the first known one it is the one asked for, with the start
// of the first. Undefined where the epoch is higher than all.
func (c epochCache) endOf(epoch int32, end int64) EpochEnd {
	if epoch == undefined || len(c) == 0 || epoch > c.latest() {
		return EpochEnd{Epoch: undefined, EndOffset: undefined}
	}
	if epoch == c.latest() {
		return EpochEnd{Epoch: epoch, EndOffset: end}
	}
	// The first entry with a higher epoch; there is one.
	i, _ := slices.BinarySearchFunc(c, epoch, func(e epochEntry, epoch int32) int {
		if e.epoch > epoch {
			return 1
		}
		return -1
	})
	if i == 0 {
		return EpochEnd{Epoch: epoch, EndOffset: c[0].start}
	}
	return EpochEnd{Epoch: c[i-1].epoch, EndOffset: c[i].start}
}

// at is the epoch in which an offset was written; undefined below the first one.
func (c epochCache) at(offset int64) int32 {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].start <= offset {
			return c[i].epoch
		}
	}
	return undefined
}

// encode writes Kafka's file: version 0, the number of entries, and a line each.
func (c epochCache) encode() []byte {
	b := []byte("0\n" + strconv.Itoa(len(c)) + "\n")
	for _, e := range c {
		b = strconv.AppendInt(b, int64(e.epoch), 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, e.start, 10)
		b = append(b, '\n')
	}
	return b
}

// parseEpochs reads what encode writes. Lines that do not grow are an error.
func parseEpochs(data []byte) (epochCache, error) {
	bad := func(line int, why string) error {
		return fmt.Errorf("%s, line %d: %s: %w", epochsBlob, line, why, core.ErrCorrupt)
	}
	lines := strings.Split(string(bytes.TrimRight(data, "\n")), "\n")
	if strings.TrimSpace(lines[0]) != "0" {
		return nil, bad(1, fmt.Sprintf("version %q is not 0", lines[0]))
	}
	if len(lines) < 2 {
		return nil, bad(2, "the number of entries is missing")
	}
	n, err := strconv.Atoi(strings.TrimSpace(lines[1]))
	if err != nil || n < 0 || n != len(lines)-2 {
		return nil, bad(2, fmt.Sprintf("%q is not the number of the %d entries that follow", lines[1], len(lines)-2))
	}
	c := make(epochCache, 0, n)
	for i, line := range lines[2:] {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return nil, bad(i+3, "want an epoch and an offset")
		}
		epoch, err1 := strconv.ParseInt(fields[0], 10, 32)
		start, err2 := strconv.ParseInt(fields[1], 10, 64)
		if err1 != nil || err2 != nil || epoch < 0 || start < 0 {
			return nil, bad(i+3, "want an epoch and an offset, neither negative")
		}
		if k := len(c); k > 0 && (c[k-1].epoch >= int32(epoch) || c[k-1].start > start) {
			return nil, bad(i+3, "epochs and offsets must grow")
		}
		c = append(c, epochEntry{int32(epoch), start})
	}
	return c, nil
}
