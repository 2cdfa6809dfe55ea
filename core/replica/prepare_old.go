package replica

import (
	"context"

	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
)

// prepareOld makes batches of a message set of magic 0 or 1, which Produce carries
// before version 3, and validates them. The log holds magic 2 alone, as Kafka's does
// since 3.0, whatever the topic's message.format.version says.
//
// An old producer knows nothing of batches: it bounds its requests, not what the
// broker makes of them. So a message set that would pass max.message.bytes as one
// batch becomes several where it is stored uncompressed; Kafka refuses it.
func (p *Partition) prepareOld(ctx context.Context, cfg *config.Topic, r *AppendRequest, v *prepared) error {
	codec := cfg.Codec
	if cfg.KeepCodec {
		codec = record.SetCodec(r.Batches)
	}
	v.plain, v.raised = p.m.buffer(), p.m.buffer()
	u := record.UpConversion{Transcoder: p.m.transcoder, MaxMessage: int(cfg.MaxMessageBytes), Buffer: *v.plain}
	if codec == record.None {
		u.MaxBatch = int(cfg.MaxMessageBytes)
	}
	up, err := u.Append((*v.raised)[:0], r.Batches)
	*v.plain = up.Buffer
	if err != nil {
		return err
	}
	*v.raised, v.batches = up.Batches, up.Batches
	rules := p.rules(cfg, r)
	if codec != record.None {
		rules.MaxBytes = 0 // it counts when they are compressed
		v.built = p.m.buffer()
	}
	for b := range up.Batches.All() {
		res, err := record.Validate(b, &rules)
		if err != nil {
			return err
		}
		if err := p.guard(ctx, cfg, r, b, res.Records); err != nil {
			return err
		}
		v.converted++
		if codec == record.None {
			continue
		}
		if err := p.recompress(cfg, b, res, codec, v.built); err != nil {
			return err
		}
	}
	if v.built != nil {
		v.batches = *v.built
	}
	return nil
}
