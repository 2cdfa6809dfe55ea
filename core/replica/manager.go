package replica

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
)

// Options has what a Manager needs. Storage, Clock, Log, Topic and Compressors are
// required.
type Options struct {
	BrokerID    int32
	Storage     core.Storage // the caller closes it, after the Manager
	Clock       core.Clock
	Log         *slog.Logger
	Compressors *core.Compressors
	// Topic gives the current configuration of a topic, never nil, also for a topic of
	// which nothing is known. Call Reconfigure when it has changed.
	Topic func(topic string) *config.Topic
	// Retention finds a retention policy by name; nil means that nothing is ever
	// deleted by age or size.
	Retention func(name string) (core.Retention, bool)
	// Commits is where retention policies get committed offsets from; with nil they are
	// not known.
	Commits Commits
	// Known reports whether the cluster has a partition, hosted here or not: lookups
	// then answer NOT_LEADER_OR_FOLLOWER instead of UNKNOWN_TOPIC_OR_PARTITION. May be
	// nil.
	Known func(topic string, partition int32) bool
	// ISR carries changes of ISRs to the controller; nil means that ISRs stay as the
	// controller makes them.
	ISR ISRChanger
	// OnOffline is told of a partition that has gone offline, and the directory that
	// it lies in. It must not block and not call the Manager. When it is nil, the
	// Manager writes a line of its own to Log.
	OnOffline func(tp core.TopicPartition, dir string, err error)
	// OnOnline is told of a partition that serves again because its directory is back. It
	// must not block and not call the Manager. May be nil.
	OnOnline func(tp core.TopicPartition, dir string)
	// OnLeadership is told when a partition begins or ceases to be led here. Calls for
	// one partition come in order. It must not block, and neither call the Manager nor
	// change the partition. May be nil.
	OnLeadership func(Leadership)
	// OnAllOffline is told when the last directory of the storage has failed, and why
	// each of them has: nothing can be served from then on. It must not block and not
	// call the Manager. May be nil.
	OnAllOffline func(err error)
	// Observer hears of what is going on. May be nil.
	Observer Observer
	// Guard checks what is produced to topics with partitioner.guard. May be nil: nothing
	// is checked.
	Guard Guard
	// Cleaner gives the current settings of compaction. Whether it is enabled is asked
	// for once, by Start. Nil means that nothing is compacted in the background.
	Cleaner func() config.Cleaner
	// FlushVisibleOnly keeps the high watermark, and with it what consumers see and
	// what acks=all answers for, at or below what this broker has flushed
	// (log.flush.visible.only).
	FlushVisibleOnly bool
	// MoveBytesPerSec is the current bound on moves between directories, in bytes a
	// second (replica.alter.log.dirs.io.max.bytes.per.second). Nil means none.
	MoveBytesPerSec func() int64

	Timing
}

// Timing has the broker settings that the Manager goes by. Zero values mean Kafka's
// defaults.
type Timing struct {
	HighWatermarkInterval  time.Duration // replica.high.watermark.checkpoint.interval.ms
	RecoveryPointInterval  time.Duration // log.flush.offset.checkpoint.interval.ms
	LogStartInterval       time.Duration // log.flush.start.offset.checkpoint.interval.ms
	RetentionInterval      time.Duration // log.retention.check.interval.ms
	FlushInterval          time.Duration // log.flush.scheduler.interval.ms, 1 s at most
	ProducerExpiration     time.Duration // producer.id.expiration.ms
	ProducerExpiryInterval time.Duration // producer.id.expiration.check.interval.ms
	ReplicaLag             time.Duration // replica.lag.time.max.ms
	RecoveryThreads        int           // num.recovery.threads.per.data.dir, times the directories
	MoveThreads            int           // num.replica.alter.log.dirs.threads; 0 means one
	// MaxDecompressed is the most bytes that one batch may decompress to; 0 means
	// 256 MiB.
	MaxDecompressed int
}

func (t *Timing) setDefaults() {
	for _, d := range []struct {
		at *time.Duration
		to time.Duration
	}{
		{&t.HighWatermarkInterval, 5 * time.Second},
		{&t.RecoveryPointInterval, time.Minute},
		{&t.LogStartInterval, time.Minute},
		{&t.RetentionInterval, 5 * time.Minute},
		{&t.FlushInterval, time.Second},
		{&t.ProducerExpiration, 24 * time.Hour},
		{&t.ProducerExpiryInterval, 10 * time.Minute},
		{&t.ReplicaLag, 30 * time.Second},
	} {
		if *d.at <= 0 {
			*d.at = d.to
		}
	}
	t.FlushInterval = min(t.FlushInterval, time.Second)
	if t.RecoveryThreads <= 0 {
		t.RecoveryThreads = 1
	}
	if t.MoveThreads <= 0 {
		t.MoveThreads = 1
	}
	if t.MaxDecompressed <= 0 {
		t.MaxDecompressed = 256 << 20
	}
}

// table finds partitions: by topic, then by number; nil where a partition is not
// hosted. It is immutable.
type table map[string][]*Partition

func (t table) get(topic string, partition int32) *Partition {
	parts := t[topic]
	if partition < 0 || int(partition) >= len(parts) {
		return nil
	}
	return parts[partition]
}

// Manager has the partitions that this broker hosts. Safe for concurrent use.
type Manager struct {
	o          Options
	log        *slog.Logger
	transcoder record.Transcoder
	decompress record.Decompress // of batches of magic 2
	table      atomic.Pointer[table]
	expiration atomic.Int64 // producer.id.expiration.ms
	buffers    sync.Pool    // *[]byte

	// admin serialises what the controller orders, and guards controllerEpoch.
	admin           sync.Mutex
	controllerEpoch int32

	// life guards closed against the start of goroutines.
	life   sync.Mutex
	closed bool
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	retain      chan *Partition // those that have rolled, for a look at retention
	startsMoved atomic.Bool     // a log start has moved since the last checkpoint
	marksMoved  atomic.Bool     // a high watermark has
	saving      sync.Mutex      // serialises saveStarts
	// checkpointing serialises the writing of checkpoints, and guards parked.
	checkpointing sync.Mutex
	parked        map[core.TopicPartition]mark

	compaction compaction
	mover      mover
	shortage   shortage
}

// NewManager makes a manager without partitions. It starts nothing: see Load and
// Start.
func NewManager(o Options) (*Manager, error) {
	if o.Storage == nil || o.Clock == nil || o.Log == nil || o.Topic == nil || o.Compressors == nil {
		return nil, fmt.Errorf("replica manager: storage, clock, log, topic configuration and compressors are required: %w", core.ErrInvalidConfig)
	}
	o.setDefaults()
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	m := &Manager{o: o, log: o.Log, controllerEpoch: -1, retain: make(chan *Partition, rolledAtOnce)}
	m.compaction.throttle = compact.NewThrottle(o.Clock)
	m.mover.init(m)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.expiration.Store(o.ProducerExpiration.Milliseconds())
	m.table.Store(&table{})
	m.transcoder = o.Compressors.Transcoder(o.MaxDecompressed)
	m.decompress = func(codec record.Codec, dst, src []byte) ([]byte, error) {
		return m.transcoder.Decompress(codec, record.Magic2, dst, src)
	}
	return m, nil
}

func (m *Manager) nowMS() int64 { return m.o.Clock.Now().UnixMilli() }

func (m *Manager) producerExpiration() int64 { return m.expiration.Load() }

// SetProducerExpiration changes producer.id.expiration.ms.
func (m *Manager) SetProducerExpiration(d time.Duration) { m.expiration.Store(d.Milliseconds()) }

// Leader finds a partition that this broker leads. topic may alias bytes that change
// later: it is not kept. It takes no lock and allocates nothing where it finds one.
// The error is UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER or
// KAFKA_STORAGE_ERROR.
func (m *Manager) Leader(topic string, partition int32) (Leader, error) {
	p := m.table.Load().get(topic, partition)
	if p == nil {
		if m.o.Known != nil && m.o.Known(topic, partition) {
			return nil, errNotLeader(core.TopicPartition{Topic: topic, Partition: partition})
		}
		return nil, errUnknownPartition(topic, partition)
	}
	if _, err := p.leading(-1); err != nil {
		return nil, err
	}
	return p, nil
}

// Partition finds a partition that this broker hosts, as leader or follower, online
// or not.
func (m *Manager) Partition(topic string, partition int32) (*Partition, bool) {
	p := m.table.Load().get(topic, partition)
	return p, p != nil
}

// Hosts reports whether this broker has a partition of a topic, as leader or
// follower, online or not.
func (m *Manager) Hosts(topic string) bool { return len((*m.table.Load())[topic]) > 0 }

// all lists the partitions by topic and number.
func (m *Manager) all() []*Partition {
	var out []*Partition
	for _, parts := range *m.table.Load() {
		for _, p := range parts {
			if p != nil {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Partition) int {
		return cmp.Or(cmp.Compare(a.tp.Topic, b.tp.Topic), cmp.Compare(a.tp.Partition, b.tp.Partition))
	})
	return out
}

// publish replaces the table by one with these partitions put in, and taken out.
// admin is held.
func (m *Manager) publish(in, out []*Partition) {
	if len(in)+len(out) == 0 {
		return
	}
	next := make(table, len(*m.table.Load())+1)
	for topic, parts := range *m.table.Load() {
		next[topic] = parts
	}
	own := map[string]bool{} // topics whose slice is this call's own
	edit := func(tp core.TopicPartition) []*Partition {
		parts := next[tp.Topic]
		n := max(len(parts), int(tp.Partition)+1)
		if !own[tp.Topic] || n > len(parts) {
			parts = append(make([]*Partition, 0, n), parts...)[:n]
			next[tp.Topic], own[tp.Topic] = parts, true
		}
		return parts
	}
	for _, p := range in {
		edit(p.tp)[p.tp.Partition] = p
	}
	for _, p := range out {
		parts := edit(p.tp)
		if parts[p.tp.Partition] == p {
			parts[p.tp.Partition] = nil
		}
		if !slices.ContainsFunc(parts, func(p *Partition) bool { return p != nil }) {
			delete(next, p.tp.Topic)
			delete(own, p.tp.Topic)
		}
	}
	m.table.Store(&next)
}

// PartitionInfo is a snapshot of one partition, for DescribeLogDirs and metrics.
type PartitionInfo struct {
	core.TopicPartition
	TopicID       core.TopicID
	Dir           string
	Bytes         int64 // size of the log
	Segments      int
	Start, End    int64 // log start and end offset
	HighWatermark int64
	LastStable    int64
	Lag           int64 // log end offset minus high watermark
	Leader        bool
	LeaderEpoch   int32 // -1 before the controller has told one
	Replicas      []int32
	ISR           []int32
	UnderMinISR   bool
	Producers     int
	Offline       error // why it does not serve; nil when it does
	Uncleanable   error // why its log is not compacted though it should be
	Future        *FutureInfo
}

// FutureInfo is a copy of a log on its way to another directory.
type FutureInfo struct {
	Dir   string
	Bytes int64 // size of the copy
	End   int64 // its log end offset
}

// Partitions describes every hosted partition, by topic and number.
func (m *Manager) Partitions() []PartitionInfo {
	parts := m.all()
	out := make([]PartitionInfo, 0, len(parts))
	for _, p := range parts {
		out = append(out, p.info())
	}
	return out
}

func (p *Partition) info() PartitionInfo {
	i := PartitionInfo{TopicPartition: p.tp, TopicID: p.TopicID(), Dir: p.dir(), LeaderEpoch: noEpoch, Producers: int(p.producerCount.Load()), Uncleanable: p.Uncleanable()}
	i.Start, i.LastStable, i.HighWatermark, i.End = p.start.Load(), p.lso.Load(), p.hw.Load(), p.end.Load()
	i.Lag = i.End - i.HighWatermark
	if ro := p.role.Load(); ro != nil {
		i.Leader, i.LeaderEpoch = ro.leads, ro.epoch
		i.Replicas, i.ISR = slices.Clone(ro.replicas), slices.Clone(ro.isr)
		i.UnderMinISR = ro.leads && len(ro.isr) < p.minISR(ro)
	}
	if f := p.fault.Load(); f != nil {
		i.Offline = f.err
	}
	i.Future = p.m.mover.info(p.tp)
	if p.log != nil {
		st := p.log.State()
		i.Dir, i.Segments = st.Dir, len(st.Segments)
		for _, s := range st.Segments {
			i.Bytes += s.Bytes
		}
	}
	return i
}

// Reconfigure takes over the current configuration of a topic in its partitions.
func (m *Manager) Reconfigure(topic string) {
	m.admin.Lock()
	defer m.admin.Unlock()
	parts := (*m.table.Load())[topic]
	if len(parts) == 0 {
		return
	}
	cfg := m.o.Topic(topic)
	for _, p := range parts {
		if p != nil {
			p.reconfigure(cfg)
		}
	}
}

// spawn runs f in a goroutine that Close waits for. It reports false when the
// manager is closing.
func (m *Manager) spawn(f func(ctx context.Context)) bool {
	m.life.Lock()
	defer m.life.Unlock()
	if m.closed {
		return false
	}
	m.wg.Go(func() { f(m.ctx) })
	return true
}

func (m *Manager) closing() bool {
	m.life.Lock()
	defer m.life.Unlock()
	return m.closed
}

const (
	firstBuffer   = 64 << 10
	largestBuffer = 8 << 20 // larger ones are left to the collector
)

func (m *Manager) buffer() *[]byte {
	if b, ok := m.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, firstBuffer)
	return &b
}

func (m *Manager) giveBack(b *[]byte) {
	if b != nil && cap(*b) <= largestBuffer {
		*b = (*b)[:0]
		m.buffers.Put(b)
	}
}

// release gives the buffers of a prepared append back.
func (m *Manager) release(v *prepared) {
	m.giveBack(v.plain)
	m.giveBack(v.raised)
	m.giveBack(v.built)
	v.plain, v.raised, v.built = nil, nil, nil
}
