package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/plugins/rule"
)

type config struct {
	Base int `setting:"test.base" doc:"Not below 0."`
}

// Validate is asked when the broker starts.
func (c config) Validate() error {
	if c.Base < 0 {
		return fmt.Errorf("test.base=%d: want at least 0", c.Base)
	}
	return nil
}

type placer struct {
	*partitioners.Murmur2Partitioner
	b *behaviour
}

// Partition implements core.Partitioner.
func (p *placer) Partition(ctx context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	if p.b.act() == "nonsense" {
		for i := range out {
			out[i] = int32(len(t.Partitions)) + 7
		}
		return nil
	}
	return p.Murmur2Partitioner.Partition(ctx, t, records, out)
}

// PartitionKey implements core.KeyOnly.
func (p *placer) PartitionKey(key []byte, n int32) int32 {
	if p.b.act() == "nonsense" {
		return n + 7
	}
	return p.Murmur2Partitioner.PartitionKey(key, n)
}

// ruled is a placer that publishes its rule, for a short time, so that it is asked again
// and again.
type ruled struct{ placer }

// Rule implements plugin.RulePublisher.
func (r *ruled) Rule(context.Context, string, int32) (*rule.Rule, time.Duration, error) { //nolint:unparam // of the interface
	r.b.act()
	return &rule.Rule{Others: rule.Places{All: true, Hash: rule.Murmur2}}, time.Millisecond, nil
}

// kept is how many records the policy keeps.
const kept = 500

type keeper struct{ b *behaviour }

// Decide implements core.Retention.
func (k keeper) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	mode := k.b.act()
	var out []core.Decision
	for _, l := range logs {
		d := core.Decision{TopicPartition: l.TopicPartition, Start: l.HighWatermark - kept, Reason: "enough of them"}
		switch mode {
		case "nonsense":
			d.Start = l.HighWatermark + kept
		case "backwards":
			d.Start = min(l.Start-kept, -kept)
			out = append(out, d)
			continue
		case "duplicate":
			all := d
			all.Start = l.HighWatermark
			out = append(out, all, d)
			continue
		}
		if d.Start > l.Start {
			out = append(out, d)
		}
	}
	return out, ctx.Err()
}

type packer struct {
	core.Compressor
	b *behaviour
}

// Compress implements core.Compressor.
func (p packer) Compress(dst, src []byte, params core.CompressionParams) ([]byte, error) {
	mode, from := p.b.act(), len(dst)
	if mode == "nonsense" {
		src = append([]byte("x"), src...)
	}
	out, err := p.Compressor.Compress(dst, src, params)
	if err != nil {
		return nil, err
	}
	switch mode {
	case "corrupt":
		out[from+(len(out)-from)/2] ^= 0x10
	case "short":
		out = out[:from+(len(out)-from)/2]
	case "empty":
		out = out[:from]
	}
	return out, nil
}

// Decompress implements core.Compressor.
func (p packer) Decompress(dst, src []byte, params core.CompressionParams) ([]byte, error) {
	mode := p.b.act()
	out, err := p.Compressor.Decompress(dst, src, params)
	if err == nil && mode == "forge" {
		out = bytes.ReplaceAll(out, []byte("value"), []byte("wrong")) // records still
	}
	return out, err
}
