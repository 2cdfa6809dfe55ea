package convert

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Converter converts batches for old clients. Safe for concurrent use.
type Converter struct {
	transcoder record.Transcoder
	cache      *Cache
	workers    [2]sync.Pool // of *worker, by magic
}

// worker has what one conversion needs.
type worker struct {
	down  *record.DownConverter
	batch []byte // as it is in the log
	out   []byte
}

// Buffers larger than this, in bytes, are left to the garbage collector.
const maxPooled = 4 << 20

// New makes a converter. The cache is the caller's to close.
func New(t record.Transcoder, c *Cache) *Converter { return &Converter{transcoder: t, cache: c} }

// Meter counts what is converted. Safe for concurrent use.
type Meter interface {
	// DownConverted counts batches that were sent in an older format, converted anew or
	// from the cache.
	DownConverted(batches int64)
}

// Request says what to convert to.
type Request struct {
	// Partition is what the batches belong to; where its topic id is not known,
	// nothing is cached.
	Partition Partition
	// Magic is 0 or 1.
	Magic int8
	// From is the offset that the client asked for: messages below it are not sent
	// again.
	From int64
	// Keep lets the first batch stay in memory, converted, until it is sent.
	// Otherwise it is converted once more then.
	Keep bool
	// Meter may be nil.
	Meter Meter
}

// Messages is a slice that converts src, a run of whole batches, when it is read. It
// owns src. It may be read more than once, but a step back begins at the front. nil
// without an error says that nothing of src is left in the older format; src is
// closed then, as it is with an error. That is a *core.KafkaError when the first
// batch cannot be converted: UNSUPPORTED_COMPRESSION_TYPE for zstd, CORRUPT_MESSAGE.
// A later one that cannot only ends the messages, so that the client meets it first
// in its next fetch.
func (c *Converter) Messages(src core.Slice, r Request) (core.Slice, error) {
	s := &messages{converter: c, src: src, request: r}
	if err := s.advance(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if len(s.now) == 0 {
		return nil, s.Close()
	}
	s.size = max(src.Len(), len(s.now))
	if !r.Keep {
		s.rewind()
	}
	return s, nil
}

func (c *Converter) worker(magic int8) *worker {
	if w, ok := c.workers[magic].Get().(*worker); ok {
		return w
	}
	return &worker{down: record.NewDownConverter(magic, c.transcoder)}
}

func (c *Converter) giveBack(magic int8, w *worker) {
	if cap(w.batch)+cap(w.out) <= maxPooled {
		c.workers[magic].Put(w)
	}
}

// batch converts the batch at position at of src, and returns its size there. The
// messages are nobody's to write to.
func (c *Converter) batch(src core.Slice, at int64, r *Request) (messages []byte, size int, err error) {
	left := int64(src.Len()) - at
	var buf [record.HeaderSize]byte
	header := buf[:min(record.HeaderSize, left)]
	if err := readFull(src, header, at); err != nil {
		return nil, 0, err
	}
	size, magic, ok := record.Peek(header)
	switch {
	case !ok, int64(size) > left, magic > record.Magic2:
		return nil, 0, corrupt(fmt.Errorf("no batch at byte %d of %d: %w", at, src.Len(), core.ErrCorrupt))
	case magic < record.Magic2:
		messages, err = c.old(src, at, size, magic, r)
		return messages, size, err
	}
	b := record.Batch(header)
	if b.IsControl() || b.Count() == 0 {
		return nil, size, nil
	}
	k := key{
		Partition: r.Partition, epoch: b.LeaderEpoch(), base: b.BaseOffset(),
		crc: b.CRC(), size: int32(size), magic: r.Magic,
	}
	cached := !r.Partition.Topic.IsZero() && c.cache.keeps(size)
	if cached {
		if m, ok := c.cache.get(&k); ok {
			return m, size, nil
		}
	}
	w := c.worker(r.Magic)
	defer c.giveBack(r.Magic, w)
	if cap(w.batch) < size {
		w.batch = make([]byte, size)
	}
	w.batch = w.batch[:size]
	if err := readFull(src, w.batch, at); err != nil {
		return nil, 0, err
	}
	// The messages get checksums of their own, which must not bless what is damaged.
	if err := record.Check(w.batch); err != nil {
		return nil, 0, corrupt(err)
	}
	if w.out, err = w.down.Append(w.out[:0], w.batch); err != nil {
		return nil, 0, refused(err)
	}
	messages = append(make([]byte, 0, len(w.out)), w.out...)
	if cached && c.cache.keeps(len(messages)) {
		c.cache.put(&k, messages)
	}
	return messages, size, nil
}

// old is for an entry that an old Kafka has left in the log: as it is, if the client
// knows its format; else, of magic 1 for magic 0, uncompressed.
func (c *Converter) old(src core.Slice, at int64, size int, magic int8, r *Request) ([]byte, error) {
	entry := make([]byte, size)
	if err := readFull(src, entry, at); err != nil {
		return nil, err
	}
	if magic <= r.Magic {
		return entry, nil
	}
	b, err := record.Raise(entry, c.transcoder)
	if err != nil {
		return nil, refused(err)
	}
	w := c.worker(r.Magic)
	defer c.giveBack(r.Magic, w)
	messages, err := w.down.Append(nil, b)
	if err != nil {
		return nil, refused(err)
	}
	return messages, nil
}

// refused words a failed conversion for the client.
func refused(err error) error {
	if v, ok := record.AsValidationError(err); ok && v.Kind == record.KindUnsupportedCodec {
		return core.Failf(kerr.UnsupportedCompressionType.Code, "%s", v.Message)
	}
	return corrupt(err)
}

func corrupt(err error) error {
	return &core.KafkaError{
		Code: kerr.CorruptMessage.Code, Message: "A batch in the log cannot be read; see the broker's log.",
		Err: fmt.Errorf("convert for an old client: %w", err),
	}
}

// readFull reads exactly len(b) bytes.
func readFull(s core.Slice, b []byte, off int64) error {
	n, err := s.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read a batch to convert: %w", err)
}
