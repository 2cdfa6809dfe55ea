package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/group/legacy"
	"github.com/millrace/millrace/core/guard"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/telemetry"
)

// replicas are the partitions on this broker, from start to stop.
type replicas struct {
	settings    *settings
	log         *slog.Logger
	store       *store
	compressors *core.Compressors
	policies    policies
	cache       *metadata.Cache
	metrics     *telemetry.Metrics
	web         *web
	halt        *halt
	groups      *groups
	guard       *guard.Guard
	isr         *isrChanges // set by attachISR
	dirs        *logDirs

	manager *replica.Manager
	loaded  atomic.Pointer[replica.Manager]
}

func newReplicas(lc fx.Lifecycle, s *settings, log *slog.Logger, st *store, c *core.Compressors, p policies,
	cache *metadata.Cache, m *telemetry.Metrics, w *web, h *halt, g *groups, gd *guard.Guard,
) *replicas {
	r := &replicas{settings: s, log: log, store: st, compressors: c, policies: p, cache: cache, metrics: m, web: w, halt: h, groups: g, guard: gd}
	lc.Append(fx.StartStopHook(r.start, r.stop))
	return r
}

// attachISR connects leaders to the controller, which is assembled later than they.
func attachISR(r *replicas, s *settings, c *controller.Controller) {
	b := s.Broker()
	r.isr = newISRChanges(b.ID, c, func() time.Duration { return s.Broker().RequestTimeout })
}

// start recovers the logs. It heeds the context, because recovery may take long.
func (r *replicas) start(ctx context.Context) error {
	b := r.settings.Broker()
	r.web.set(telemetry.Recovering)
	r.dirs = newLogDirs(b.ID, r.store.tree.sessions.get, r.settings.clock, r.log)
	m, err := replica.NewManager(replica.Options{
		BrokerID: b.ID, Storage: r.store.Storage, Clock: r.settings.clock, Log: r.log.With("part", "replica"),
		Compressors: r.compressors, Topic: r.settings.Topic, Retention: r.policies.get, Known: r.known,
		ISR: r.isr, OnOffline: r.offline, OnOnline: r.online, OnAllOffline: r.allOffline, Observer: logObserver{r.metrics}, Guard: r.guard,
		OnLeadership:     r.groups.OnLeadership,
		Commits:          &commits{r.groups.Coordinator, legacy.New(r.store.tree.sessions.get), r.log.With("part", "retention")},
		Cleaner:          func() config.Cleaner { return r.settings.Broker().Logs.Cleaner },
		FlushVisibleOnly: b.Logs.FlushVisibleOnly,
		MoveBytesPerSec:  func() int64 { return r.settings.Broker().Logs.MoveBytesPerSec },
		Timing: replica.Timing{
			HighWatermarkInterval: b.Logs.HighWatermarkCheckpoint, RecoveryPointInterval: b.Logs.RecoveryCheckpoint,
			LogStartInterval: b.Logs.StartOffsetCheckpoint, RetentionInterval: b.Logs.RetentionCheck,
			FlushInterval: b.Logs.FlushCheck, ProducerExpiration: b.Logs.ProducerExpiration,
			ProducerExpiryInterval: b.Logs.ProducerExpirationCheck, ReplicaLag: b.Replication.LagTimeMax,
			RecoveryThreads: b.Logs.RecoveryThreads, MoveThreads: b.Logs.MoveThreads,
		},
	})
	if err != nil {
		return err
	}
	r.manager = m
	if err := m.Load(ctx); err != nil {
		return fmt.Errorf("open the logs: %w", err)
	}
	if a := r.store.adoption; a != nil {
		if err := a.run(ctx, r.store.Storage, m.Found()); err != nil {
			return err
		}
	}
	m.Start()
	r.dirs.start()
	r.loaded.Store(m)
	return nil
}

func (r *replicas) stop(ctx context.Context) error {
	defer r.isr.close()
	if r.manager == nil {
		return nil
	}
	r.dirs.close()
	return r.manager.Close(ctx)
}

// offline says what an operator has to do about a log that does not work.
func (r *replicas) offline(tp core.TopicPartition, dir string, err error) {
	if errors.Is(err, core.ErrNotTried) && !errors.Is(err, core.ErrStorage) {
		r.log.Error("a partition is offline until there are descriptors, or memory, again; raise the limit (LimitNOFILE, ulimit -n) if that happens often",
			"topic", tp.Topic, "partition", tp.Partition, "dir", dir, "err", err)
		return
	}
	r.log.Error("a partition is offline; check the disk of its directory, and restart the broker once it works",
		"topic", tp.Topic, "partition", tp.Partition, "dir", dir, "err", err)
	r.dirs.changed()
}

func (r *replicas) online(tp core.TopicPartition, dir string) {
	r.log.Info("a partition is online again", "topic", tp.Topic, "partition", tp.Partition, "dir", dir)
	r.dirs.changed()
}

// allOffline ends the broker, as Kafka does: it can serve nothing, and as long as it
// is registered nobody else leads.
func (r *replicas) allOffline(err error) {
	err = fmt.Errorf("every log directory has failed; check the disks and start the broker again: %w", err)
	r.log.Error("the broker cannot go on", "err", err)
	r.halt.because(err)
}

// running is the manager once the logs are open; nil before.
func (r *replicas) running() *replica.Manager { return r.loaded.Load() }

// known reports whether the cluster has a partition, here or elsewhere.
func (r *replicas) known(topic string, partition int32) bool {
	t, ok := r.cache.Current().Topic(topic)
	return ok && partition >= 0 && int(partition) < len(t.Partitions)
}
