package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// replicas are the partitions on this broker, from start to stop.
type replicas struct {
	settings    *settings
	log         *slog.Logger
	store       *store
	compressors *core.Compressors
	policies    policies
	cache       *metadata.Cache

	manager *replica.Manager
	loaded  atomic.Pointer[replica.Manager]
}

func newReplicas(lc fx.Lifecycle, s *settings, log *slog.Logger, st *store, c *core.Compressors, p policies, cache *metadata.Cache) *replicas {
	r := &replicas{settings: s, log: log, store: st, compressors: c, policies: p, cache: cache}
	lc.Append(fx.StartStopHook(r.start, r.stop))
	return r
}

// start recovers the logs. It heeds the context, because recovery may take long.
func (r *replicas) start(ctx context.Context) error {
	b := r.settings.Broker()
	m, err := replica.NewManager(replica.Options{
		BrokerID: b.ID, Storage: r.store.Storage, Clock: r.settings.clock, Log: r.log.With("part", "replica"),
		Compressors: r.compressors, Topic: r.settings.Topic, Retention: r.policies.get, Known: r.known,
		Timing: replica.Timing{
			HighWatermarkInterval: b.Logs.HighWatermarkCheckpoint, RecoveryPointInterval: b.Logs.RecoveryCheckpoint,
			LogStartInterval: b.Logs.StartOffsetCheckpoint, RetentionInterval: b.Logs.RetentionCheck,
			FlushInterval: b.Logs.FlushCheck, ProducerExpiration: b.Logs.ProducerExpiration,
			ProducerExpiryInterval: b.Logs.ProducerExpirationCheck, ReplicaLag: b.Replication.LagTimeMax,
			RecoveryThreads: b.Logs.RecoveryThreads,
		},
	})
	if err != nil {
		return err
	}
	r.manager = m
	if err := m.Load(ctx); err != nil {
		return fmt.Errorf("open the logs: %w", err)
	}
	m.Start()
	r.loaded.Store(m)
	return nil
}

func (r *replicas) stop(ctx context.Context) error {
	if r.manager == nil {
		return nil
	}
	return r.manager.Close(ctx)
}

// running is the manager once the logs are open; nil before.
func (r *replicas) running() *replica.Manager { return r.loaded.Load() }

// known reports whether the cluster has a partition, here or elsewhere.
func (r *replicas) known(topic string, partition int32) bool {
	t, ok := r.cache.Current().Topic(topic)
	return ok && partition >= 0 && int(partition) < len(t.Partitions)
}
