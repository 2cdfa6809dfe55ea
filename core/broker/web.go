package broker

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"sync/atomic"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/api"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/httpproduce"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/telemetry"
)

// web is metrics, health and profiles over HTTP. It starts first and stops last, so
// that a broker that recovers for long can be watched.
type web struct {
	settings *settings
	server   *telemetry.Server
	state    atomic.Int32                        // telemetry.BrokerState
	produce  atomic.Pointer[httpproduce.Handler] // nil before the logs are open
}

// serveProduce produces over HTTP, when the broker is ready and the settings let it.
func (w *web) serveProduce(rw http.ResponseWriter, r *http.Request) {
	h := w.produce.Load()
	switch {
	case !w.settings.Broker().HTTPProduce:
		http.Error(rw, "Producing over HTTP is off: set http.produce.enable=true.", http.StatusNotFound)
	case h == nil || telemetry.BrokerState(w.state.Load()) != telemetry.Running:
		http.Error(rw, errNotReady.Error(), http.StatusServiceUnavailable)
	default:
		h.ServeHTTP(rw, r)
	}
}

// attachProduce connects the HTTP server to the partitions, which are assembled later.
func attachProduce(w *web, r *replicas, s *settings, log *slog.Logger, cache *metadata.Cache, reg *core.Registry[core.Partitioner]) {
	w.produce.Store(httpproduce.New(httpproduce.Options{
		Leader:   func(topic string, partition int32) (replica.Leader, error) { return r.manager.Leader(topic, partition) },
		Metadata: cache, Clock: s.clock, Log: log.With("part", "http"),
		Partitioner: func(ctx context.Context, name string) (core.Partitioner, error) {
			return reg.Build(ctx, name, s.env("partitioner", log))
		},
		TopicPartitioner: func(topic string) string { return s.Topic(topic).Partitioner },
		MaxBatch:         func(topic string) int { return int(s.Topic(topic).MaxMessageBytes) },
		Refused:          api.InternalTopic,
		MaxBytes:         s.Broker().HTTPMaxBytes, Timeout: s.Broker().RequestTimeout,
	}))
}

var errNotReady = errors.New("the broker is not ready: it is starting or stopping")

func newWeb(lc fx.Lifecycle, o Options, s *settings, log *slog.Logger, m *telemetry.Metrics) *web {
	w := &web{settings: s}
	mux := http.NewServeMux()
	for _, c := range o.Companions {
		for pattern, page := range c.Pages() {
			mux.Handle(pattern, page)
		}
	}
	mux.HandleFunc(httpproduce.Pattern, w.serveProduce)
	mux.Handle("/", telemetry.Handler(telemetry.Pages{
		Metrics: m, Pprof: s.Broker().Pprof,
		Ready: func() error {
			if telemetry.BrokerState(w.state.Load()) != telemetry.Running {
				return errNotReady
			}
			return nil
		},
	}))
	w.server = telemetry.NewServer(mux, log.With("part", "http"))
	lc.Append(fx.StartStopHook(w.start, w.server.Close))
	return w
}

func (w *web) start(ctx context.Context) error {
	w.set(telemetry.Starting)
	if addr := w.settings.Broker().HTTPListener; addr != "" {
		return w.server.Start(ctx, addr)
	}
	return nil
}

func (w *web) set(s telemetry.BrokerState) { w.state.Store(int32(s)) }

// addr is the bound address; empty when there is none.
func (w *web) addr() string {
	if a := w.server.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// sources let the metrics look at the parts when somebody asks.
type sources struct {
	web        *web
	settings   *settings
	replicas   *replicas
	controller *controller.Controller
	cache      *metadata.Cache
	network    *network
	store      *store
	member     *member
	api        *apiServer
}

// attachSources is run once everything is assembled.
func attachSources(m *telemetry.Metrics, w *web, s *settings, r *replicas, c *controller.Controller,
	cache *metadata.Cache, n *network, st *store, mb *member, a *apiServer,
) {
	o := &sources{web: w, settings: s, replicas: r, controller: c, cache: cache, network: n, store: st, member: mb, api: a}
	m.Attach(telemetry.Sources{
		Broker: o.broker, Replicas: o.replicaState, Controller: o.controllerState, Cluster: o.cluster,
		Listeners: func() iter.Seq2[string, core.ListenerStats] { return maps.All(n.stats()) },
		Dirs:      o.dirs, Logs: o.logs, FetchSessions: o.fetchSessions, Cleaner: o.cleaner,
		Groups: a.groups.state, Conversions: a.conversions,
	})
}

func (o *sources) broker() telemetry.BrokerInfo {
	return telemetry.BrokerInfo{
		Version: Version, ID: o.settings.Broker().ID, ClusterID: o.cache.Current().ClusterID,
		State: telemetry.BrokerState(o.web.state.Load()), Coordination: o.member.connected(),
	}
}

func (o *sources) replicaState() (s telemetry.ReplicaState) {
	m := o.replicas.running()
	if m == nil {
		return s
	}
	for _, p := range m.Partitions() {
		s.Partitions++
		if p.Offline != nil {
			s.OfflineReplicas++
			continue
		}
		if !p.Leader {
			continue
		}
		s.Leaders++
		if len(p.ISR) < len(p.Replicas) {
			s.UnderReplicated++
		}
		if p.UnderMinISR {
			s.UnderMinISR++
		} else if len(p.ISR) == o.settings.Topic(p.Topic).MinInSyncReplicas {
			s.AtMinISR++
		}
	}
	return s
}

func (o *sources) controllerState() (s telemetry.ControllerState) {
	_, s.Active = o.controller.Leading()
	s.Epoch = o.cache.Current().ControllerEpoch
	if !s.Active {
		return s
	}
	s.Queue = o.controller.Waiting()
	for _, t := range o.cache.Current().Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if p.Leader < 0 {
				s.OfflinePartitions++
			} else if len(p.Replicas) > 0 && p.Leader != p.Replicas[0] {
				s.PreferredImbalance++
			}
		}
	}
	return s
}

func (o *sources) cluster() telemetry.ClusterState {
	im := o.cache.Current()
	s := telemetry.ClusterState{Brokers: len(im.Brokers()), Topics: im.NumTopics()}
	for _, t := range im.Topics() {
		s.Partitions += len(t.Partitions)
	}
	return s
}

func (o *sources) dirs() []telemetry.DirState {
	m := o.replicas.running()
	if m == nil {
		return nil
	}
	dirs, err := o.store.Dirs(context.Background())
	if err != nil {
		return nil
	}
	sums := map[string]telemetry.DirState{}
	for _, p := range m.Partitions() {
		s := sums[p.Dir]
		s.LogBytes += p.Bytes
		if p.Uncleanable != nil {
			s.Uncleanable++
			s.UncleanableBytes += p.Bytes
		}
		sums[p.Dir] = s
	}
	out := make([]telemetry.DirState, len(dirs))
	for i, d := range dirs {
		out[i] = sums[d.Path]
		out[i].Dir = d
	}
	return out
}

func (o *sources) cleaner() telemetry.CleanerState {
	m := o.replicas.running()
	if m == nil {
		return telemetry.CleanerState{}
	}
	s := m.Compaction()
	return telemetry.CleanerState{
		Threads: s.Threads, Running: s.Running, Rounds: s.Rounds, Failed: s.Failed, Read: s.Read, Written: s.Written,
		Reclaimed: s.Reclaimed, Records: s.Records, Kept: s.Kept, LastRun: s.LastRun, LastTook: s.LastTook, MaxDelay: s.MaxDelay,
		BufferUsed: s.LastTableFull, Recopied: s.LastRecopied, MaxDirty: s.MaxDirtyRatio,
	}
}

func (o *sources) logs() iter.Seq[telemetry.LogSize] {
	return func(yield func(telemetry.LogSize) bool) {
		m := o.replicas.running()
		if m == nil {
			return
		}
		for _, p := range m.Partitions() {
			if !yield(telemetry.LogSize{Topic: p.Topic, Bytes: p.Bytes, Segments: p.Segments}) {
				return
			}
		}
	}
}

func (o *sources) fetchSessions() telemetry.FetchSessionState {
	server := o.api.serving.Load()
	if server == nil {
		return telemetry.FetchSessionState{}
	}
	st := server.FetchSessionStats()
	return telemetry.FetchSessionState{Sessions: st.Sessions, Partitions: st.Partitions, Evictions: st.Evictions}
}
