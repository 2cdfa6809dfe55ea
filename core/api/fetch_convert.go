package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// maxKept bounds the converted messages in bytes that wait in memory for their turn
// in one answer.
const maxKept = 1 << 20

// convert puts messages of an older format in the place of the batches in res, which
// r has read. Where nothing is left of them in that format, it reads on behind them:
// an old client would ask for the same ones for ever. res is without a slice where
// there is nothing up to the end of what may be read.
func (f *fetching) convert(ctx context.Context, p *fetchPart, r replica.FetchRequest, res replica.FetchResult) (replica.FetchResult, error) {
	c := convert.Request{Magic: record.Magic0, From: r.Offset, Keep: f.kept < maxKept, Meter: meterOf(p.leader)}
	if f.version >= fetchTimestamps {
		c.Magic = record.Magic1
	}
	c.Partition.Partition = p.partition
	if t, ok := p.leader.(identified); ok {
		c.Partition.Topic = t.TopicID()
	}
	for res.Slice != nil {
		// The slice is the converter's now, also with an error.
		s, err := f.server.Convert.Messages(res.Slice, c)
		res.Slice = nil
		if err != nil {
			return res, err
		}
		if s != nil {
			res.Slice = s
			f.kept += s.Len()
			return res, nil
		}
		r.Offset = res.Next
		if res, err = p.leader.Fetch(ctx, r); err != nil {
			return res, err
		}
	}
	return res, nil
}

// translate names errors as the client knows them: one that has never heard of
// KAFKA_STORAGE_ERROR looks for another leader all the same.
func (f *fetching) translate() {
	if f.version >= fetchStorage {
		return
	}
	for i := range f.parts {
		if p := &f.parts[i]; p.code == kerr.KafkaStorageError.Code {
			p.code = kerr.NotLeaderForPartition.Code
		}
	}
}
