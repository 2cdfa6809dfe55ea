package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// placed is where an append went. The zero value is an append of nothing.
type placed struct {
	base, end int64
	// wait is the offset that the high watermark must reach before anybody is told; 0
	// when it has.
	wait  int64
	epoch int32
}

// builder makes batches. Its buffers are used again.
type builder struct {
	codec       record.Codec
	compressors *core.Compressors
	records     []record.Record
	size        int
	buf         []byte
}

// add takes a record in; it fails with schema.ErrTooLong.
func (b *builder) add(r schema.Record) error {
	key, value, err := schema.Encode(r)
	if err != nil {
		return err
	}
	b.records = append(b.records, record.Record{OffsetDelta: int32(len(b.records)), Key: key, Value: value})
	b.size += len(key) + len(value)
	return nil
}

// batch is the batch of what was added, at a time.
func (b *builder) batch(now time.Time) (record.Batches, error) {
	info := record.NewBatchInfo(0, now.UnixMilli())
	var compress func(dst, src []byte) ([]byte, error)
	if b.codec != record.None {
		c, err := b.compressors.For(b.codec)
		if err != nil {
			return nil, err
		}
		info.Codec = b.codec
		compress = func(dst, src []byte) ([]byte, error) {
			return c.Compress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: record.Magic2})
		}
	}
	var err error
	b.buf, err = record.AppendBatch(b.buf[:0], info, b.records, compress)
	return b.buf, err
}

// reset forgets what was added; large buffers are left to the collector.
func (b *builder) reset() {
	const most, mostRecords = 1 << 20, 10_000
	clear(b.records)
	b.records, b.size = b.records[:0], 0
	if cap(b.records) > mostRecords {
		b.records = nil
	}
	if cap(b.buf) > most {
		b.buf = nil
	}
}

// flush appends what was added to build, and empties it. The error has Kafka's code of
// the append. The lock is held.
func (s *shard) flush(now time.Time) (placed, error) {
	defer s.build.reset()
	n := len(s.build.records)
	if n == 0 {
		return placed{}, nil
	}
	b, err := s.build.batch(now)
	if err != nil {
		s.logger.Error("cannot build a batch of group records", "error", err)
		return placed{}, err
	}
	res, err := s.log.Append(s.ctx, replica.AppendRequest{Batches: b, Acks: replica.AcksAll, Internal: true, Term: &s.term})
	if err != nil {
		if s.ctx.Err() != nil {
			return placed{}, core.Failf(kerr.NotLeaderForPartition.Code, "The leadership of partition %d of %s is over.", s.partition, TopicName)
		}
		return placed{}, err
	}
	return placed{base: res.Base, end: res.Base + int64(n), wait: res.Wait, epoch: res.LeaderEpoch}, nil
}

// write appends records as one batch.
func (s *shard) write(now time.Time, records ...schema.Record) (placed, error) {
	for _, r := range records {
		if err := s.build.add(r); err != nil {
			s.build.reset()
			return placed{}, core.Failf(kerr.InvalidRequest.Code, "%v", err)
		}
	}
	return s.flush(now)
}

// stored is a record of a group that waits for the high watermark.
type stored struct {
	deadline time.Time
	done     func(now time.Time, code int16)
	over     bool
}

// answer is what has become of one.
type answer struct {
	*stored
	code int16
}

// settled calls done, with the lock held, when an append counts or has failed. done
// may be called before settled returns. The lock is held.
func (s *shard) settled(now time.Time, p placed, done func(now time.Time, code int16)) {
	if p.wait == 0 {
		done(now, 0)
		return
	}
	w := &stored{deadline: now.Add(s.c.o.Settings.CommitTimeout), done: done}
	s.stored = append(s.stored, w)
	s.alarm(w.deadline)
	s.log.Await(p.wait, p.epoch, func(err error) {
		// Perhaps with the lock held, by this goroutine even.
		code, _ := core.KafkaCode(err)
		s.answers.Lock()
		s.answered = append(s.answered, answer{w, code})
		s.answers.Unlock()
		s.nudge()
	})
}

// settle tells those whose records count by now, or who have waited too long. The lock
// is held.
func (s *shard) settle(now time.Time) {
	s.answers.Lock()
	answered := s.answered
	s.answered = nil
	s.answers.Unlock()
	for _, a := range answered {
		if !a.over {
			a.over = true
			a.done(now, a.code)
		}
	}
	n := 0
	for n < len(s.stored) {
		w := s.stored[n]
		if !w.over {
			if w.deadline.After(now) {
				break
			}
			w.over = true
			w.done(now, kerr.RequestTimedOut.Code)
		}
		n++
	}
	if n > 0 {
		s.stored = append(s.stored[:0:0], s.stored[n:]...)
	}
}

// env is what a classic group asks of its shard.
type env struct {
	s *shard
	g *group
}

// Store implements classic.Env.
func (e env) Store(value *kmsg.GroupMetadataValue, done func(now time.Time, code int16)) {
	now := e.s.c.o.Clock.Now()
	p, err := e.s.write(now, &schema.GroupMetadata{Group: e.g.id, Value: metadataOf(value)})
	if err != nil {
		code, _ := core.KafkaCode(err)
		e.s.logger.Warn("cannot store a group", "group", e.g.id, "error", err)
		done(now, code)
		return
	}
	e.g.stored = true
	e.s.settled(now, p, func(now time.Time, code int16) {
		done(now, code)
		e.s.touched(e.g)
	})
}

// NewMemberID implements classic.Env.
func (e env) NewMemberID() string { return e.s.c.o.NewMemberID() }

// Rebalanced implements classic.Env.
func (e env) Rebalanced() { e.s.c.count.rebalances.Add(1) }
