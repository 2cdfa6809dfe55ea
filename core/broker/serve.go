package broker

import (
	"log/slog"
	"math/rand/v2"
	"sync/atomic"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/api"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/telemetry"
	"github.com/millrace/millrace/core/txn"
)

// newCache is this broker's view of the cluster; the cluster's id is filled in when
// it is known.
func newCache() *metadata.Cache { return metadata.NewCache("") }

// newController makes the controller of this broker; it acts while member runs it.
func newController(s *settings, log *slog.Logger, cache *metadata.Cache, feed *controller.ConfigFeed, p *peers, m *telemetry.Metrics) (*controller.Controller, error) {
	b := s.Broker()
	return controller.New(controller.Config{
		BrokerID: b.ID, Sender: p, Clock: s.clock, Log: log.With("part", "controller"),
		Random:   rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), //nolint:gosec // spreads replicas, guards nothing
		Metadata: cache, Feed: feed, Rules: func() controller.Rules { return s.Snapshot() }, InterBroker: b.InterBrokerListener,
		Observer: controllerObserver{m},
		Settings: func() controller.Settings {
			b := s.Broker()
			c := controller.DefaultSettings()
			c.NumPartitions, c.ReplicationFactor = b.Topics.Partitions, b.Topics.ReplicationFactor
			c.DeleteTopics, c.RequestTimeout = b.Topics.DeleteEnable, b.RequestTimeout
			c.UncleanElection = b.DefaultTopic.UncleanLeaderElection
			return c
		},
	})
}

// maxDecompressed bounds what a batch that is converted for an old client may
// decompress to, in bytes: what an append may.
const maxDecompressed = 256 << 20

// apiServer makes the handler of requests once everything behind it is there.
type apiServer struct {
	settings   *settings
	log        *slog.Logger
	replicas   *replicas
	controller *controller.Controller
	cache      *metadata.Cache
	tree       *coordination
	store      *store
	metrics    *telemetry.Metrics
	groups     *groups
	converter  *convert.Converter
	converted  *convert.Cache
	serving    atomic.Pointer[api.Server]
}

func newAPIServer(lc fx.Lifecycle, s *settings, log *slog.Logger, r *replicas, c *controller.Controller, cache *metadata.Cache,
	tree *coordination, st *store, m *telemetry.Metrics, g *groups, compressors *core.Compressors,
) *apiServer {
	converted := convert.NewCache(s.Broker().Network.ConversionCacheBytes)
	// Stopped after the listeners, which are assembled later.
	lc.Append(fx.StopHook(converted.Close))
	return &apiServer{
		settings: s, log: log, replicas: r, controller: c, cache: cache, tree: tree, store: st, metrics: m, groups: g,
		converter: convert.New(compressors.Transcoder(maxDecompressed), converted), converted: converted,
	}
}

func (a *apiServer) conversions() telemetry.ConversionState {
	st := a.converted.Stats()
	return telemetry.ConversionState{Bytes: a.converted.Bytes(), Hits: st.Hits, Misses: st.Misses}
}

func (a *apiServer) handler() core.Handler {
	b := a.settings.Broker()
	server := api.NewServer(api.Options{
		NodeID: b.ID, Replicas: a.replicas.manager, Admin: a.controller, Metadata: a.cache, Groups: a.groups.serving(a.tree.sessions),
		Clock: a.settings.clock, Log: a.log.With("part", "api"),
		Producers: txn.NewProducerIDs(b.ID, a.tree.sessions.get),
		Observer:  &observer{a.metrics, a.settings.clock}, AutoCreateTopics: b.Topics.AutoCreate,
		FetchMaxBytes: b.Network.FetchMaxBytes, FetchSessions: b.Network.FetchSessionSlots,
		Convert: a.converter,
		Configs: a.settings, Dirs: a.store, Hosted: a.replicas.manager,
		MaxDescribedPartitions: b.Network.MaxDescribedPartitions,
	})
	a.serving.Store(server)
	return server
}

// quiet answers the requests that wait for other clients, and those that come, so
// that the listeners can be drained: a member that waits in a group may do so for
// minutes.
func (a *apiServer) quiet() {
	a.groups.Close()
	if s := a.serving.Load(); s != nil {
		s.Quiet()
	}
}
