package replica

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
)

// batchVersion is the first version of Produce that carries batches of magic 2, and
// nothing else (KIP-98).
const batchVersion = 3

// zstdVersion is the first version of Produce that may carry zstd (KIP-110).
const zstdVersion = 7

// prepared is what an append goes on with after validation.
type prepared struct {
	batches record.Batches
	// plain, raised and built are buffers to give back: decompressed records, batches
	// made of a message set, and batches that were compressed again.
	plain, raised, built *[]byte
	records              []RecordError
	converted            int // batches that were rewritten
}

// prepare validates the batches of a request and brings them into the form in which
// they are stored, all but their place. The caller releases v when err is nil.
func (p *Partition) prepare(ctx context.Context, cfg *config.Topic, r *AppendRequest) (v prepared, err error) {
	v.batches = r.Batches
	if err = p.prepareAll(ctx, cfg, r, &v); err != nil {
		if _, ok := record.AsValidationError(err); ok {
			v.records, err = validationError(p.tp, err)
		}
		p.m.release(&v)
	}
	return v, err
}

func (p *Partition) prepareAll(ctx context.Context, cfg *config.Topic, r *AppendRequest, v *prepared) error {
	if r.Version >= batchVersion && !r.Internal || len(r.Batches) == 0 {
		if _, err := record.SingleBatch(r.Batches); err != nil {
			return err
		}
	}
	if r.Version < batchVersion && !r.Internal {
		if _, magic, ok := record.Peek(r.Batches); ok && magic < record.Magic2 {
			if err := p.prepareOld(ctx, cfg, r, v); err != nil {
				return err
			}
			return p.fits(cfg, v)
		}
	}
	producers := 0
	for rest := []byte(r.Batches); len(rest) > 0; {
		pos := len(r.Batches) - len(rest)
		entry, next, magic, err := record.NextEntry(rest)
		if err != nil {
			return err
		}
		if magic != record.Magic2 {
			return &record.ValidationError{Kind: record.KindOldFormat, Message: fmt.Sprintf(
				"Batch magic %d is not the same as the first batch's magic byte %d", magic, record.Magic2)}
		}
		b := record.Batch(entry)
		if b.ProducerID() != record.NoProducerID {
			producers++
		}
		if producers > 1 {
			return core.Failf(kerr.InvalidRecord.Code, "Several record batches with producer ids were sent to partition %s at once.", p.tp)
		}
		if b.IsTransactional() && !b.IsControl() && !r.Internal {
			// Without a coordinator nobody would ever end the transaction, and it would hold
			// the last stable offset back for as long as the log keeps it.
			return core.Failf(kerr.InvalidTxnState.Code,
				"This broker has no transactions yet, so it takes no transactional records for partition %s; use a producer without transactional.id.", p.tp)
		}
		if err := p.prepareBatch(ctx, cfg, r, b, pos, v); err != nil {
			return err
		}
		rest = next
	}
	if v.built != nil {
		v.batches = *v.built
	}
	return p.fits(cfg, v)
}

// fits refuses what is larger than a segment.
func (p *Partition) fits(cfg *config.Topic, v *prepared) error {
	if len(v.batches) > int(cfg.SegmentBytes) {
		return core.Failf(kerr.RecordListTooLarge.Code,
			"Message batch size is %d bytes in append to partition %s, which exceeds the maximum configured segment size of %d.",
			len(v.batches), p.tp, cfg.SegmentBytes)
	}
	return nil
}

// prepareBatch validates the batch that is at pos in the request.
func (p *Partition) prepareBatch(ctx context.Context, cfg *config.Topic, r *AppendRequest, b record.Batch, pos int, v *prepared) error {
	codec := b.Codec()
	if codec == record.Zstd && r.Version < zstdVersion && !r.Internal {
		return core.Failf(kerr.UnsupportedCompressionType.Code,
			"Produce requests with version %d are not allowed to use ZStandard compression", r.Version)
	}
	rules := p.rules(cfg, r)
	if codec != record.None {
		if v.plain == nil {
			v.plain = p.m.buffer()
		}
		rules.Buffer = (*v.plain)[:0]
	}
	res, err := record.Validate(b, &rules)
	if err != nil {
		return err
	}
	if codec != record.None && cap(res.Records) > cap(*v.plain) {
		*v.plain = res.Records[:0] // it grew: keep the larger one
	}
	if err := p.guard(ctx, cfg, r, b, res.Records); err != nil {
		return err
	}
	if !cfg.KeepCodec && codec != cfg.Codec && !b.IsControl() {
		if v.built == nil {
			v.built = p.m.buffer()
			*v.built = append((*v.built)[:0], r.Batches[:pos]...)
		}
		v.converted++
		return p.recompress(cfg, b, res, cfg.Codec, v.built)
	}
	if !cfg.LogAppendTime && !b.IsControl() {
		b.SetCreateTime(res.MaxTimestamp)
	}
	if v.built != nil {
		*v.built = append(*v.built, b...)
	}
	return nil
}

// rules are what the topic asks of a batch.
func (p *Partition) rules(cfg *config.Topic, r *AppendRequest) record.Rules {
	return record.Rules{
		MaxBytes: int(cfg.MaxMessageBytes), Compacted: cfg.Compact, LogAppendTime: cfg.LogAppendTime,
		Now: p.m.nowMS(), Before: cfg.TimestampBeforeMax, After: cfg.TimestampAfterMax,
		Internal: r.Internal, Decompress: p.m.decompress,
	}
}

// recompress appends b to dst, with the same records in another codec.
func (p *Partition) recompress(cfg *config.Topic, b record.Batch, res record.Result, codec record.Codec, dst *[]byte) error {
	level := cfg.Level
	if cfg.KeepCodec {
		level = core.DefaultLevel // the settings' levels are for the topic's own codec
	}
	start := len(*dst)
	out := append(*dst, b[:record.HeaderSize]...)
	if codec == record.None {
		out = append(out, res.Records...)
	} else {
		c, err := p.m.o.Compressors.For(codec)
		if err != nil {
			return core.Failf(kerr.UnsupportedCompressionType.Code, "This broker has no %s codec, which topic %s asks for.", codec, p.tp.Topic)
		}
		out, err = c.Compress(out, res.Records, core.CompressionParams{Level: level, Magic: record.Magic2})
		if err != nil {
			return fmt.Errorf("compress a batch for %s with %s: %w", p.tp, codec, err)
		}
	}
	*dst = out
	built := record.Batch(out[start:])
	if len(built) > int(cfg.MaxMessageBytes) {
		return core.Failf(kerr.MessageTooLarge.Code,
			"Message batch size is %d bytes after compression with %s in append to partition %s, which exceeds the maximum configured size of %d.",
			len(built), codec, p.tp, cfg.MaxMessageBytes)
	}
	record.SealBatch(built, record.BatchInfo{
		BaseOffset: b.BaseOffset(), LeaderEpoch: b.LeaderEpoch(), Codec: codec,
		Transactional: b.IsTransactional(), FirstTimestamp: b.FirstTimestamp(), MaxTimestamp: res.MaxTimestamp,
		ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(),
	}, b.LastOffsetDelta(), b.Count())
	return nil
}
