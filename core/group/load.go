package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// loadRetry is the pause before a load that has failed is tried again.
const loadRetry = time.Second

// maxDecompressed is the most bytes that a batch of group records may decompress to.
const maxDecompressed = 256 << 20

// everything is a high watermark above all records: they count when the shard is active.
const everything int64 = math.MaxInt64

// buffer is what a load reads into: raw for what is in the log, plain for what was
// compressed there.
type buffer struct{ raw, plain []byte }

// trim leaves what is larger than size to the collector.
func (b *buffer) trim(size int) {
	if cap(b.raw) > size {
		b.raw = nil
	}
	if cap(b.plain) > size {
		b.plain = nil
	}
}

// load reads the partition and makes the shard active. It reports false when the
// leadership has ended before.
func (s *shard) load() bool {
	began := s.c.o.Clock.Now()
	for {
		l, err := s.read()
		if err == nil && s.catchUp(l.end) {
			if err = s.c.o.Configured(s.ctx); err == nil {
				s.activate(l, began)
				return true
			}
		}
		if s.ctx.Err() != nil {
			return false
		}
		s.logger.Error("cannot load the groups of a partition; trying again", "error", err)
		if !s.pause(loadRetry, nil) {
			return false
		}
	}
}

// read replays the log when there is a buffer for it.
func (s *shard) read() (*loader, error) {
	select {
	case b := <-s.c.loaders:
		defer func() {
			b.trim(2 * s.c.o.Settings.LoadBufferBytes)
			s.c.loaders <- b
		}()
		l := &loader{s: s, b: b, groups: map[string]*group{}, classic: map[string]*schema.GroupMetadataValue{}, open: map[int64][]*group{}}
		return l, l.read(s.ctx)
	case <-s.ctx.Done():
		return nil, fmt.Errorf("load the groups: %w", s.ctx.Err())
	}
}

// catchUp waits until everything that was read is replicated, and reports false when the
// leadership has ended before. What is not may be lost with this leader; and the high
// watermark of a new leader is behind that of the one before, so that what has been
// answered, or shown to somebody, may be above it. Either way something could be taken
// back that a client has acted on: an assignment, a committed offset. (Kafka serves at
// once. Members are not expelled meanwhile: their heartbeats succeed.)
func (s *shard) catchUp(end int64) bool {
	for s.log.HighWatermark() < end {
		// It fails when the ISR has become too small for acknowledgements, and has the
		// records all the same.
		reached := make(chan struct{})
		cancel := s.log.Await(end, s.term, func(error) { close(reached) })
		if !s.pause(s.c.o.Settings.CommitTimeout, reached) {
			cancel()
			return false
		}
		cancel()
		if hw := s.log.HighWatermark(); hw < end {
			s.logger.Warn("the records of groups are not replicated yet; nobody is served before", "end", end, "highWatermark", hw)
			select {
			case <-reached: // it has failed
				if !s.pause(loadRetry, nil) {
					return false
				}
			default:
			}
		}
	}
	return s.ctx.Err() == nil
}

// pause waits, or until something is over; false when the leadership has ended before.
func (s *shard) pause(d time.Duration, over <-chan struct{}) bool {
	timer := s.c.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C():
	case <-s.ctx.Done():
	}
	return s.ctx.Err() == nil
}

// activate takes over what was read.
func (s *shard) activate(l *loader, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.c.o.Clock.Now()
	if s.ctx.Err() != nil {
		return
	}
	s.phase, s.groups, s.floor = active, l.groups, l.end
	for id, v := range l.classic {
		g := l.group(id)
		s.newClassic(g, now)
		g.stored = true
		g.classic.Restore(classicOf(v), now)
		s.touched(g)
	}
	for id, g := range s.groups {
		s.activateConsumer(now, g)
		if g.idle() && !g.stored {
			delete(s.groups, id)
		}
	}
	s.checks = now.Add(s.c.o.Settings.RetentionCheck)
	if len(s.gone) > 0 {
		s.dropTopics(now, s.gone)
		s.gone = nil
	}
	s.dropAbsent(now)
	took := now.Sub(began)
	level := slog.LevelInfo
	if l.records == 0 {
		level = slog.LevelDebug // all fifty of them at the first group of a cluster
	}
	s.logger.Log(s.ctx, level, "loaded the groups of a partition", "groups", len(s.groups), "records", l.records, "skipped", l.skipped, "took", took)
	s.c.count.loaded(took)
}

// loader reads a partition from its start to its end.
type loader struct {
	s       *shard
	b       *buffer
	groups  map[string]*group
	classic map[string]*schema.GroupMetadataValue
	open    map[int64][]*group // those with offsets of a producer's open transaction

	end              int64 // of the log, when it was read
	records, skipped int
}

func (l *loader) group(id string) *group {
	g := l.groups[id]
	if g == nil {
		g = newGroup(id)
		l.groups[id] = g
	}
	return g
}

// read replays the log, up to where it ends when it is begun: nothing is appended before
// the shard is active.
func (l *loader) read(ctx context.Context) error {
	at, end := l.s.log.Bounds()
	l.end = end
	for at < end {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("load the groups: %w", err)
		}
		res, err := l.s.log.Fetch(ctx, replica.FetchRequest{
			Offset: at, LeaderEpoch: -1, LastFetchedEpoch: -1, Isolation: replica.LogEnd,
			MaxBytes: l.s.c.o.Settings.LoadBufferBytes, MinOneBatch: true, ReplicaID: -1,
		})
		if err != nil {
			if start, _ := l.s.log.Bounds(); start > at && errorCode(err) == kerr.OffsetOutOfRange.Code {
				at = start // the log was cut meanwhile
				continue
			}
			return fmt.Errorf("read from offset %d: %w", at, err)
		}
		if res.Slice == nil {
			break // what is left of the log was compacted away
		}
		next, err := l.chunk(res.Slice, at)
		if err != nil {
			return fmt.Errorf("read from offset %d: %w", at, err)
		}
		at = next
	}
	return nil
}

// chunk replays the batches of a slice, which it closes, and returns the offset after
// them.
func (l *loader) chunk(slice core.Slice, from int64) (next int64, err error) {
	n := slice.Len()
	raw := slices.Grow(l.b.raw[:0], n)[:n]
	l.b.raw = raw[:0]
	if read, e := slice.ReadAt(raw, 0); read < n {
		if e == nil {
			e = io.ErrUnexpectedEOF
		}
		return 0, errors.Join(e, slice.Close())
	}
	if err := slice.Close(); err != nil {
		return 0, err
	}
	for len(raw) > 0 {
		entry, rest, magic, err := record.NextEntry(raw)
		if err != nil {
			return 0, err
		}
		raw = rest
		b := record.Batch(entry)
		if magic < record.Magic2 { // of a Kafka before 0.11
			next = b.BaseOffset() + 1
			if b, err = record.Raise(entry, l.transcoder()); err != nil {
				l.skip(next-1, "a message of an old format cannot be read", err)
				continue
			}
		}
		next = b.NextOffset()
		if next <= from {
			continue
		}
		l.batch(b)
	}
	if next <= from {
		return 0, fmt.Errorf("no batch reaches offset %d: %w", from, core.ErrCorrupt)
	}
	return next, nil
}

// batch replays one batch. What of it cannot be read is left out and said in the log.
func (l *loader) batch(b record.Batch) {
	if err := record.Check(b); err != nil {
		l.skip(b.BaseOffset(), "a batch is damaged", err)
		return
	}
	records, err := b.Records(l.decompress, l.b.plain[:0])
	if err != nil {
		l.skip(b.BaseOffset(), "a batch cannot be decompressed", err)
		return
	}
	if b.Codec() != record.None {
		l.b.plain = records[:0]
	}
	r := record.NewReader(b, records)
	for r.Next() {
		if b.IsControl() {
			l.control(b, r.View())
			continue
		}
		l.record(b, r.Offset(), r.View())
	}
	if err := r.Err(); err != nil {
		l.skip(b.BaseOffset(), "a batch has records that cannot be read", err)
	}
}

func (l *loader) decompress(codec record.Codec, dst, src []byte) ([]byte, error) {
	return l.transcoder().Decompress(codec, record.Magic2, dst, src)
}

func (l *loader) transcoder() record.Transcoder {
	return l.s.c.o.Compressors.Transcoder(maxDecompressed)
}

func (l *loader) skip(offset int64, what string, err error) {
	l.skipped++
	l.s.logger.Error("left out while loading groups: "+what, "offset", offset, "error", err)
}

// control ends a transaction.
func (l *loader) control(b record.Batch, v *record.View) {
	m, ok, err := record.ParseEndTxn(v.Key, v.Value)
	if err != nil {
		l.skip(b.BaseOffset(), "a control record cannot be read", err)
		return
	}
	if !ok {
		return
	}
	for _, g := range l.open[b.ProducerID()] {
		g.txns.end(b.ProducerID(), m.Commit, g.offsets, b.NextOffset(), everything)
	}
	delete(l.open, b.ProducerID())
}

// record replays one record.
func (l *loader) record(b record.Batch, offset int64, v *record.View) {
	l.records++
	r, err := schema.Decode(v.Key, v.Value)
	if err != nil {
		var unknown *schema.UnknownTypeError
		if errors.As(err, &unknown) {
			l.skipped++
			l.s.logger.Warn("left out while loading groups: a record of another release", "offset", offset, "error", err)
			return
		}
		l.skip(offset, "a record cannot be read", err)
		return
	}
	switch r := r.(type) {
	case *schema.OffsetCommit:
		l.offset(b, offset, r)
	case *schema.GroupMetadata:
		if r.Tombstone() {
			delete(l.classic, r.Group)
		} else {
			l.classic[r.Group] = r.Value
		}
	default:
		l.consumer(r)
	}
}

func (l *loader) offset(b record.Batch, at int64, r *schema.OffsetCommit) {
	o := offset{deleted: true}
	if !r.Tombstone() {
		o = offsetOf(r.Value)
	}
	o.at, o.settles = at, b.NextOffset()
	g := l.group(r.Group)
	if b.IsTransactional() {
		if g.txns[b.ProducerID()] == nil {
			l.open[b.ProducerID()] = append(l.open[b.ProducerID()], g)
		}
		g.txns.put(b.ProducerID(), core.TopicPartition{Topic: r.Topic, Partition: r.Partition}, o)
		return
	}
	g.offsets.put(r.Topic, r.Partition, o, everything)
	if o.deleted {
		g.txns.drop(core.TopicPartition{Topic: r.Topic, Partition: r.Partition})
	}
}

func errorCode(err error) int16 {
	code, _ := core.KafkaCode(err)
	return code
}
