package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/core"
)

// Options are what a storage is opened with; the zero value will do.
type Options struct {
	// Clock tells when a segment was last appended to; the system's by default.
	Clock core.Clock
}

// Storage implements core.Storage in memory. A log keeps its contents while it is
// closed, until it is deleted or the storage is closed.
type Storage struct {
	clock  core.Clock
	events chan core.StorageEvent

	mu          sync.Mutex
	closed      bool
	identity    *core.Identity
	logs        map[logKey]*contents
	checkpoints map[core.CheckpointKind]map[core.TopicPartition]int64
}

type logKey struct {
	core.TopicPartition
	future bool
}

// contents is a log whether it is open or not.
type contents struct {
	topicID core.TopicID
	open    *Log // nil while closed
	start   int64
	flushed int64
	segs    []*segment
	blobs   map[string][]byte
}

// Open makes an empty storage.
func Open(o Options) *Storage {
	if o.Clock == nil {
		o.Clock = core.SystemClock{}
	}
	return &Storage{
		clock:       o.Clock,
		events:      make(chan core.StorageEvent),
		logs:        map[logKey]*contents{},
		checkpoints: map[core.CheckpointKind]map[core.TopicPartition]int64{},
	}
}

// Dirs answers one directory without a path and with sizes unknown.
func (s *Storage) Dirs(context.Context) ([]core.Dir, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("directories of the memory storage: %w", core.ErrClosed)
	}
	return []core.Dir{{Total: -1, Usable: -1}}, nil
}

// Identify implements core.Storage.
func (s *Storage) Identify(_ context.Context, id core.Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return fmt.Errorf("identify the memory storage: %w", core.ErrClosed)
	case s.identity == nil:
		s.identity = &id
	case *s.identity != id:
		return fmt.Errorf("storage is bound to broker %d of cluster %q, not to broker %d of cluster %q: %w",
			s.identity.BrokerID, s.identity.ClusterID, id.BrokerID, id.ClusterID, core.ErrForeignStorage)
	}
	return nil
}

// List implements core.Storage; the order is by topic, partition, future last.
func (s *Storage) List(context.Context) ([]core.LogID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("list logs: %w", core.ErrClosed)
	}
	ids := make([]core.LogID, 0, len(s.logs))
	for k, c := range s.logs {
		ids = append(ids, core.LogID{TopicPartition: k.TopicPartition, TopicID: c.topicID, Future: k.future})
	}
	slices.SortFunc(ids, func(a, b core.LogID) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), order(a.Future, b.Future))
	})
	return ids, nil
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Open implements core.Storage.
func (s *Storage) Open(_ context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, core.Recovered{}, fmt.Errorf("open log %s: %w", id.TopicPartition, core.ErrClosed)
	}
	if id.Dir != "" {
		return nil, core.Recovered{}, fmt.Errorf("open log %s: the memory storage has no directory %q: %w",
			id.TopicPartition, id.Dir, core.ErrNotFound)
	}
	key := logKey{id.TopicPartition, id.Future}
	c := s.logs[key]
	rec := core.Recovered{Clean: true}
	switch {
	case c == nil:
		rec.Created = true
		c = &contents{topicID: id.TopicID, segs: []*segment{newSegment(0)}, blobs: map[string][]byte{}}
		s.logs[key] = c
	case c.open != nil:
		return nil, core.Recovered{}, fmt.Errorf("open log %s: %w", id.TopicPartition, core.ErrLogOpen)
	case !c.topicID.IsZero() && !id.TopicID.IsZero() && c.topicID != id.TopicID:
		return nil, core.Recovered{}, fmt.Errorf("open log %s as topic %s, but it belongs to %s: %w",
			id.TopicPartition, id.TopicID, c.topicID, core.ErrWrongTopicID)
	case c.topicID.IsZero():
		c.topicID = id.TopicID
	}
	l := &Log{storage: s, name: id.String(), c: c}
	l.Reconfigure(cfg)
	c.open = l
	return l, rec, nil
}

// Promote implements core.Storage.
func (s *Storage) Promote(_ context.Context, id core.LogID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("promote log %s: %w", id.TopicPartition, core.ErrClosed)
	}
	future, current := logKey{id.TopicPartition, true}, logKey{id.TopicPartition, false}
	c := s.logs[future]
	if c == nil {
		return fmt.Errorf("promote log %s: no future log: %w", id.TopicPartition, core.ErrNotFound)
	}
	if old := s.logs[current]; c.open != nil || old != nil && old.open != nil {
		return fmt.Errorf("promote log %s: %w", id.TopicPartition, core.ErrLogOpen)
	}
	s.logs[current] = c
	delete(s.logs, future)
	return nil
}

// Delete implements core.Storage. Checkpoints forget the log.
func (s *Storage) Delete(_ context.Context, id core.LogID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("delete log %s: %w", id.TopicPartition, core.ErrClosed)
	}
	key := logKey{id.TopicPartition, id.Future}
	c := s.logs[key]
	if c == nil {
		return nil
	}
	if c.open != nil {
		return fmt.Errorf("delete log %s: %w", id.TopicPartition, core.ErrLogOpen)
	}
	delete(s.logs, key)
	if !id.Future {
		for _, at := range s.checkpoints {
			delete(at, id.TopicPartition)
		}
	}
	return nil
}

// Checkpoint implements core.Storage; durable means until Close here.
func (s *Storage) Checkpoint(_ context.Context, kind core.CheckpointKind, at map[core.TopicPartition]int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("write checkpoint: %w", core.ErrClosed)
	}
	s.checkpoints[kind] = maps.Clone(at)
	return nil
}

// Checkpoints implements core.Storage.
func (s *Storage) Checkpoints(_ context.Context, kind core.CheckpointKind) (map[core.TopicPartition]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("read checkpoint: %w", core.ErrClosed)
	}
	at := maps.Clone(s.checkpoints[kind])
	if at == nil {
		at = map[core.TopicPartition]int64{}
	}
	return at, nil
}

// Events implements core.Storage. Memory has no directories that fail: the
// channel carries nothing and is closed by Close.
func (s *Storage) Events() <-chan core.StorageEvent { return s.events }

// Close implements core.Storage. Slices that were read stay readable.
func (s *Storage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for _, c := range s.logs {
		if c.open != nil {
			c.open.shut()
		}
	}
	s.logs = nil
	close(s.events)
	return nil
}
