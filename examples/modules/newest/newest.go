// Package newest is a retention policy in a module of its own: it keeps a number of
// records in each partition.
package newest

import (
	"context"
	"errors"

	"github.com/millrace/millrace/core"
)

// Name is how topics pick it: retention.policy=newest.
const Name = "newest"

// Policy implements core.Retention.
type Policy struct {
	Records int64 `setting:"retention.newest.records" doc:"How many records the policy newest keeps in each partition, at the least."`
}

// Factory is for broker.WithRetention.
func Factory() (core.Factory[core.Retention], error) {
	return core.Define(Name, "keeps a number of records in each partition", Policy{Records: 1000},
		func(_ context.Context, _ core.Env, p Policy) (core.Retention, error) { return p, nil })
}

// Validate is called when the broker starts.
func (p Policy) Validate() error {
	if p.Records < 1 {
		return errors.New("retention.newest.records: keep at least one")
	}
	return nil
}

// Decide implements core.Retention.
func (p Policy) Decide(_ context.Context, logs []core.LogView) ([]core.Decision, error) {
	var out []core.Decision
	for _, l := range logs {
		start := l.Start
		for _, s := range l.Segments {
			if s.End <= l.HighWatermark-p.Records {
				start = s.End
			}
		}
		if start > l.Start {
			out = append(out, core.Decision{TopicPartition: l.TopicPartition, Start: start, Reason: "retention.newest.records"})
		}
	}
	return out, nil
}
