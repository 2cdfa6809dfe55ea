package remote

import (
	"context"
	"fmt"
	"time"

	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/rule"
)

// RulePublisher is a core.Partitioner that publishes rules.
type RulePublisher interface {
	// Rule is the rule for a topic with so many partitions, and how long it holds: zero
	// for as long as the plugin runs. A nil rule is none. It may be called at any time,
	// beside other calls.
	Rule(ctx context.Context, topic string, partitions int32) (*rule.Rule, time.Duration, error)
}

func ruleToProto(r *rule.Rule) *pb.Rule {
	out := &pb.Rule{
		Part: pb.KeyPart(r.Part), Delimiter: uint32(r.Delimiter),
		Others: placesToProto(&r.Others), Keyless: placesToProto(&r.Keyless),
	}
	for i := range r.Entries {
		out.Entries = append(out.Entries, &pb.Entry{Part: r.Entries[i].Part, Places: placesToProto(&r.Entries[i].Places)})
	}
	return out
}

func placesToProto(p *rule.Places) *pb.Places {
	out := &pb.Places{Partitions: p.Partitions, All: p.All, Hash: pb.Hash(p.Hash)}
	for _, pt := range p.Ring {
		out.Ring = append(out.Ring, &pb.RingPoint{Point: pt.Point, Partition: pt.Partition})
	}
	return out
}

// ruleFromProto checks a rule that a plugin has sent. What is wrong with it is
// ErrNonsense.
func ruleFromProto(in *pb.Rule, partitions int32) (*rule.Rule, error) {
	const byteMax = 255
	if in.Delimiter > byteMax || in.Part < 0 || in.Part > pb.KeyPart_KEY_PART_AFTER {
		return nil, fmt.Errorf("%w: a rule with part %d and delimiter %d", ErrNonsense, in.Part, in.Delimiter)
	}
	r := &rule.Rule{
		Part: rule.Part(in.Part), Delimiter: byte(in.Delimiter),
		Others: placesFromProto(in.Others), Keyless: placesFromProto(in.Keyless),
		Entries: make([]rule.Entry, 0, len(in.Entries)),
	}
	for _, e := range in.Entries {
		r.Entries = append(r.Entries, rule.Entry{Part: e.GetPart(), Places: placesFromProto(e.GetPlaces())})
	}
	if err := r.Prepare(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNonsense, err)
	}
	if !r.Fits(partitions) {
		return nil, fmt.Errorf("%w: a rule for %d partitions names one that is not among them", ErrNonsense, partitions)
	}
	return r, nil
}

func placesFromProto(in *pb.Places) rule.Places {
	if in == nil {
		return rule.Places{}
	}
	const unknown = 255 // which Prepare refuses
	hash := rule.Hash(unknown)
	if in.Hash >= 0 && in.Hash < unknown {
		hash = rule.Hash(in.Hash)
	}
	out := rule.Places{Partitions: in.Partitions, All: in.All, Hash: hash}
	for _, pt := range in.Ring {
		out.Ring = append(out.Ring, rule.Point{Point: pt.GetPoint(), Partition: pt.GetPartition()})
	}
	return out
}
