package txn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/millrace/millrace/core"
)

// blockPath is the node that holds the newest block of producer ids.
const blockPath = "/latest_producer_id_block"

// blockSize is how many producer ids a broker takes at once, as in Kafka.
const blockSize = 1000

// ErrNoProducerIDs means that the node which counts the producer ids has reached
// 2^63.
var ErrNoProducerIDs = errors.New("producer ids are exhausted")

// Sessions gives the session with which the tree is reached now; a broker opens a
// new one when it has lost one.
type Sessions func(ctx context.Context) (core.CoordinatorSession, error)

// ProducerIDs hands out producer ids, each once in the life of the cluster. It takes
// them from the tree in blocks of 1000 (/latest_producer_id_block) and forgets
// what is left of a block when the broker stops. Safe for concurrent use.
type ProducerIDs struct {
	broker   int32
	sessions Sessions
	lock     chan struct{} // held by whoever uses what is below; ends with a context
	next     int64         // the next id to hand out
	end      int64         // the last id of the block; before next when it is used up
}

// NewProducerIDs makes the allocator of a broker. It takes no ids yet.
func NewProducerIDs(broker int32, sessions Sessions) *ProducerIDs {
	return &ProducerIDs{broker: broker, sessions: sessions, lock: make(chan struct{}, 1), next: 0, end: -1}
}

// Next hands out an id, taking a new block from the tree when the last one is used
// up. Callers wait for each other. It fails with the tree's error
// (core.ErrSessionLost and so on), with ErrNoProducerIDs, or when the context
// ends; it may be called again.
func (p *ProducerIDs) Next(ctx context.Context) (int64, error) {
	select {
	case p.lock <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("next producer id: %w", context.Cause(ctx))
	}
	defer func() { <-p.lock }()
	if p.next > p.end {
		start, err := p.takeBlock(ctx)
		if err != nil {
			return 0, fmt.Errorf("next producer id: %w", err)
		}
		p.next, p.end = start, start+blockSize-1
	}
	id := p.next
	p.next++
	return id, nil
}

// block is the data of the node. Kafka writes the ids as strings.
type block struct {
	Version int   `json:"version"`
	Broker  int32 `json:"broker"`
	Start   int64 `json:"block_start,string"`
	End     int64 `json:"block_end,string"`
}

// takeBlock takes the block after the newest one and returns its first id. The
// version of the node makes sure that nobody else has taken it.
func (p *ProducerIDs) takeBlock(ctx context.Context) (int64, error) {
	session, err := p.sessions(ctx)
	if err != nil {
		return 0, err
	}
	for {
		start, op, err := p.propose(ctx, session)
		if err != nil {
			return 0, err
		}
		_, err = session.Commit(ctx, op)
		switch {
		case err == nil:
			return start, nil
		case errors.Is(err, core.ErrBadVersion), errors.Is(err, core.ErrNodeExists), errors.Is(err, core.ErrNotFound):
			// Another broker was faster: look again.
		case errors.Is(err, core.ErrOutcomeUnknown) && ctx.Err() == nil:
			// If the block was taken for us, nobody will use it. There are enough.
		default:
			return 0, fmt.Errorf("take producer ids from %d on: %w", start, err)
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("take producer ids: %w", context.Cause(ctx))
		}
	}
}

// propose reads the newest block and makes the commit that takes the next one.
func (p *ProducerIDs) propose(ctx context.Context, session core.CoordinatorSession) (int64, core.Op, error) {
	node, err := session.Get(ctx, blockPath)
	found := err == nil
	if err != nil && !errors.Is(err, core.ErrNotFound) {
		return 0, core.Op{}, fmt.Errorf("read %s: %w", blockPath, err)
	}
	var start int64
	if len(node.Data) > 0 { // Kafka makes the node without data first
		newest, err := parseBlock(node.Data)
		if err != nil {
			return 0, core.Op{}, err
		}
		if newest.End > math.MaxInt64-blockSize {
			return 0, core.Op{}, fmt.Errorf("%s ends at %d: %w", blockPath, newest.End, ErrNoProducerIDs)
		}
		start = newest.End + 1
	}
	data, err := json.Marshal(block{Version: 1, Broker: p.broker, Start: start, End: start + blockSize - 1})
	if err != nil {
		return 0, core.Op{}, fmt.Errorf("encode %s: %w", blockPath, err)
	}
	if !found {
		return start, core.Create(blockPath, data), nil
	}
	return start, core.Set(blockPath, data, node.Stat.Version), nil
}

// parseBlock reads the node's data. What cannot be read is an error: guessing could
// hand out an id twice.
func parseBlock(data []byte) (block, error) {
	var b block
	if err := json.Unmarshal(data, &b); err != nil {
		return block{}, fmt.Errorf("%s holds %.100q, which is not a block of producer ids: %w", blockPath, data, err)
	}
	if b.Start < 0 || b.End < b.Start {
		return block{}, fmt.Errorf("%s holds the block from %d to %d, which cannot be: %w", blockPath, b.Start, b.End, core.ErrCorrupt)
	}
	return b, nil
}
