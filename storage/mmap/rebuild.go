package mmap

import (
	"encoding/binary"
	"errors"
	"os"

	"github.com/millrace/millrace/internal/vfs"
)

// rebuilt gathers index entries from the batches of a segment, by the same rule as
// appends do.
type rebuilt struct {
	base     int64
	interval int64 // index.interval.bytes
	limit    int64 // of an index file in bytes

	size  int64 // bytes of the batches so far
	next  int64
	since int64 // bytes since the last index entry, its batch included
	st    stats

	offsets, times []byte
	lastTS         int64 // of the last entry in times; -1 when there is none
}

// add takes in the next batch.
func (r *rebuilt) add(h *header) {
	r.st.add(h)
	if r.since > r.interval && int64(len(r.offsets))+offsetEntry <= r.limit {
		r.offsets = appendOffsetEntry(r.offsets, h.last, r.base, r.size)
		if int64(len(r.times))+2*timeEntry <= r.limit {
			r.timeEntry()
		}
		r.since = 0
	}
	r.since += h.size
	r.size += h.size
	r.next = h.next()
}

func (r *rebuilt) timeEntry() {
	if r.st.maxBase < 0 {
		return
	}
	last := int64(-1)
	if len(r.times) > 0 {
		last = r.lastTS
	}
	if r.st.maxTS > last {
		r.times = appendTimeEntry(r.times, r.st.maxTS, r.st.maxLast, r.base)
		r.lastTS = r.st.maxTS
	}
}

// finish adds the last entry of the time index, as closing a segment does.
func (r *rebuilt) finish() { r.timeEntry() }

// write replaces the index files. They are durable with the next flush.
func (r *rebuilt) write(fs vfs.FS, path string) error {
	return errors.Join(overwrite(fs, path+indexSuffix, r.offsets), overwrite(fs, path+timeSuffix, r.times))
}

// overwrite makes a new file of that name, so that mappings of the old one keep
// what they have.
func overwrite(fs vfs.FS, name string, data []byte) error {
	if err := fs.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		_, err = f.WriteAt(data, 0)
	}
	return errors.Join(err, f.Close())
}

func appendOffsetEntry(b []byte, last, base, pos int64) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(relative(last, base)))
	return binary.BigEndian.AppendUint32(b, uint32(pos))
}

func appendTimeEntry(b []byte, ts, last, base int64) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(ts))
	return binary.BigEndian.AppendUint32(b, uint32(relative(last, base)))
}

// writeDurably replaces the indexes of a segment that a recovery may trust without a
// look: after a power cut they are the old ones or these.
func (r *rebuilt) writeDurably(fs vfs.FS, path string) error {
	return errors.Join(
		vfs.WriteFile(fs, path+indexSuffix, r.offsets),
		vfs.WriteFile(fs, path+timeSuffix, r.times),
	)
}
