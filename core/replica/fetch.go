package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Fetch implements Leader. It takes no lock.
func (p *Partition) Fetch(ctx context.Context, r FetchRequest) (FetchResult, error) {
	res := FetchResult{HighWatermark: -1, LastStableOffset: -1, LogStart: -1}
	if _, err := p.leading(r.LeaderEpoch); err != nil {
		return res, err
	}
	if r.Convert && r.ReplicaID < 0 && !p.cfg.Load().DownConversion {
		return res, core.Failf(kerr.UnsupportedVersion.Code,
			"Topic %s is not converted to older message formats (message.downconversion.enable=false): a newer client is needed.", p.tp.Topic)
	}
	if r.NoZstd {
		if cfg := p.cfg.Load(); !cfg.KeepCodec && cfg.Codec == record.Zstd {
			return res, core.Failf(kerr.UnsupportedCompressionType.Code,
				"Topic %s is compressed with zstd, which needs version 10 of Fetch: a newer client.", p.tp.Topic)
		}
	}
	// The order matters: each of these only grows, and none passes the next.
	start, lso, hw, end := p.start.Load(), p.lso.Load(), p.hw.Load(), p.end.Load()
	res.HighWatermark, res.LastStableOffset, res.LogStart = hw, lso, start
	if r.Offset < start || r.Offset > end {
		return res, errOutOfRange(p.tp, r.Offset, start, end)
	}
	if r.LastFetchedEpoch >= 0 {
		div, err := p.divergence(r, end)
		if err != nil || div != nil {
			res.Diverging = div
			return res, err
		}
	}
	below := upTo(r.Isolation, lso, hw, end)
	if r.Offset >= below {
		return res, nil
	}
	chunk, err := p.log.Read(ctx, core.ReadRequest{
		From: r.Offset, Below: below, MaxBytes: r.MaxBytes, MinOneBatch: r.MinOneBatch,
	})
	if err != nil {
		return res, p.readFailed(r.Offset, err)
	}
	res.Slice, res.Next = chunk.Slice, chunk.Next
	if r.Isolation == ReadCommitted {
		res.Aborted = p.abortedIn(r.Offset, chunk.Next)
	}
	return res, nil
}

// upTo is the offset below which a reader may read.
func upTo(iso Isolation, lso, hw, end int64) int64 {
	switch iso {
	case ReadCommitted:
		return min(lso, hw)
	case LogEnd:
		return end
	default:
		return hw
	}
}

// divergence compares the reader's last epoch with the log (KIP-595).
func (p *Partition) divergence(r FetchRequest, end int64) (*EpochEnd, error) {
	e := p.epochCache().endOf(r.LastFetchedEpoch, end)
	if e.EndOffset == undefined || e.Epoch == undefined {
		return nil, core.Failf(kerr.OffsetOutOfRange.Code,
			"Could not determine the end offset of the last fetched epoch %d of the request in partition %s.", r.LastFetchedEpoch, p.tp)
	}
	if e.Epoch < r.LastFetchedEpoch || e.EndOffset < r.Offset {
		return &e, nil
	}
	return nil, nil
}

// readFailed turns an error of a read into that for the client.
func (p *Partition) readFailed(offset int64, err error) error {
	if errors.Is(err, core.ErrOffsetOutOfRange) {
		// The log was trimmed or truncated since its bounds were looked at.
		start, end := p.log.Bounds()
		return errOutOfRange(p.tp, offset, start, end)
	}
	return p.failed("read", err)
}

// readBatch reads the first batch of a chunk and closes the chunk.
func readBatch(c core.Chunk) (record.Batch, error) {
	b, err := readEntry(c)
	if err == nil && b != nil && b.Magic() < record.Magic2 {
		return nil, fmt.Errorf("a message of magic %d where a batch is wanted: %w", b.Magic(), core.ErrCorrupt)
	}
	return b, err
}

// readRaised is readBatch for logs as an old Kafka may have left them: messages of
// magic 0 and 1 are answered as a batch.
func (m *Manager) readRaised(c core.Chunk) (record.Batch, error) {
	b, err := readEntry(c)
	if err == nil && b != nil && b.Magic() < record.Magic2 {
		return record.Raise(b, m.transcoder)
	}
	return b, err
}

// readEntry reads the first entry of a chunk, of whatever magic, and closes the chunk.
func readEntry(c core.Chunk) (b record.Batch, err error) {
	if c.Slice == nil {
		return nil, nil
	}
	defer func() {
		if e := c.Slice.Close(); err == nil && e != nil {
			err = e
		}
	}()
	var buf [record.HeaderSize]byte
	header := buf[:min(record.HeaderSize, c.Slice.Len())]
	if err := readFull(c.Slice, header, 0); err != nil {
		return nil, err
	}
	size, _, ok := record.Peek(header)
	if !ok || size > c.Slice.Len() {
		return nil, core.ErrCorrupt
	}
	b = make(record.Batch, size)
	return b, readFull(c.Slice, b, 0)
}

// readFull reads len(buf) bytes of a slice.
func readFull(s core.Slice, buf []byte, off int64) error {
	n, err := s.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if err == nil {
		err = core.ErrCorrupt
	}
	return err
}
