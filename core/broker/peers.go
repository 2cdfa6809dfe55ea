package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/telemetry"
)

// peers carries the controller's requests to brokers. Those to this broker are
// executed here, without a detour through the network; others come with clusters.
type peers struct {
	settings *settings
	cache    *metadata.Cache
	replicas *replicas
	groups   *groups
	metrics  *telemetry.Metrics
}

func newPeers(s *settings, cache *metadata.Cache, r *replicas, g *groups, m *telemetry.Metrics) *peers {
	return &peers{settings: s, cache: cache, replicas: r, groups: g, metrics: m}
}

// Send implements controller.Sender.
func (p *peers) Send(ctx context.Context, broker int32, req kmsg.Request) (kmsg.Response, error) {
	if broker != p.settings.Broker().ID {
		return nil, fmt.Errorf("request to broker %d: this broker runs alone", broker)
	}
	switch r := req.(type) {
	case *kmsg.LeaderAndISRRequest:
		return p.replicas.manager.ApplyLeaderAndISR(ctx, r), nil
	case *kmsg.StopReplicaRequest:
		resp := p.replicas.manager.StopReplicas(ctx, r)
		p.forget(r)
		return resp, nil
	case *kmsg.UpdateMetadataRequest:
		resp := kmsg.NewPtrUpdateMetadataResponse()
		before := p.cache.Current()
		if err := p.cache.Apply(r); err != nil {
			resp.ErrorCode = kerr.StaleControllerEpoch.Code
		}
		if gone := before.Gone(p.cache.Current()); len(gone) > 0 {
			p.groups.TopicsDeleted(gone)
		}
		return resp, nil
	default:
		return nil, fmt.Errorf("a %s request is not for brokers", kmsg.NameForKey(req.Key()))
	}
}

// forget drops the metrics of topics that have no partition here any more.
func (p *peers) forget(r *kmsg.StopReplicaRequest) {
	for i := range r.Topics {
		if topic := r.Topics[i].Topic; !p.replicas.manager.Hosts(topic) {
			p.metrics.ForgetTopic(topic)
		}
	}
}
