package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/tree"
)

// Registration is how a broker announces itself.
type Registration struct {
	Broker  metadata.Broker // Epoch is not used
	JMXPort int32           // -1 for none
	// Wait is how long the node of another session may stay in the way; more than the
	// session timeout. After that the id counts as taken by a live broker.
	Wait  time.Duration
	Clock core.Clock
}

// Register announces a broker in a session and returns its broker epoch: the czxid
// of its node. The node dies with the session: register again in a new one.
//
// While the node of another session is there, which may be the broker's own from
// before a restart, Register waits for it to go. When it has not gone after Wait, or
// another broker comes back under the id, the id is in use and Register fails.
func Register(ctx context.Context, s core.CoordinatorSession, r Registration) (epoch int64, err error) {
	path := tree.BrokerPath(r.Broker.ID)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := s.Watch(ctx, path)
	if err != nil {
		return 0, fmt.Errorf("register broker %d: %w", r.Broker.ID, err)
	}
	timer := r.Clock.NewTimer(r.Wait)
	defer timer.Stop()
	var first *core.Node // the node that was in the way at first
	for {
		epoch, err := tryRegister(ctx, s, path, r)
		if err == nil {
			return epoch, nil
		}
		if !errors.Is(err, core.ErrNodeExists) && !errors.Is(err, core.ErrOutcomeUnknown) {
			return 0, fmt.Errorf("register broker %d: %w", r.Broker.ID, err)
		}
		node, err := s.Get(ctx, path)
		switch {
		case errors.Is(err, core.ErrNotFound):
			continue
		case err != nil:
			return 0, fmt.Errorf("register broker %d: %w", r.Broker.ID, err)
		case node.Stat.EphemeralOwner == s.ID(): // an outcome that was unknown
			return node.Stat.Czxid, nil
		case first != nil && first.Stat.Czxid != node.Stat.Czxid:
			return 0, duplicateError(r.Broker.ID, node)
		}
		first = &node
		select {
		case _, ok := <-events:
			if !ok {
				return 0, fmt.Errorf("register broker %d: %w", r.Broker.ID, errors.Join(ctx.Err(), core.ErrSessionLost))
			}
		case <-timer.C():
			return 0, duplicateError(r.Broker.ID, node)
		case <-ctx.Done():
			return 0, fmt.Errorf("register broker %d: %w", r.Broker.ID, ctx.Err())
		}
	}
}

func tryRegister(ctx context.Context, s core.CoordinatorSession, path string, r Registration) (int64, error) {
	data := tree.Broker{Rack: r.Broker.Rack, JMXPort: r.JMXPort, TimestampMs: r.Clock.Now().UnixMilli()}
	for _, e := range r.Broker.Endpoints {
		data.Endpoints = append(data.Endpoints, tree.Endpoint(e))
	}
	res, err := s.Commit(ctx, core.CreateEphemeral(path, data.Encode()))
	if err != nil {
		return 0, err
	}
	if owner := res[0].Stat.EphemeralOwner; owner != s.ID() {
		return 0, fmt.Errorf("%s belongs to session %x, not to %x: %w", path, owner, s.ID(), core.ErrSessionLost)
	}
	return res[0].Stat.Czxid, nil
}

func duplicateError(id int32, node core.Node) error {
	where := "another address"
	if b, err := tree.DecodeBroker(node.Data); err == nil && len(b.Endpoints) > 0 {
		e := b.Endpoints[0]
		where = fmt.Sprintf("%s://%s:%d", e.Listener, e.Host, e.Port)
	}
	return fmt.Errorf("broker id %d is in use by a live broker at %s; give each broker its own broker.id: %w", id, where, core.ErrNodeExists)
}

// toBroker makes the broker of a registration's node.
func toBroker(id int32, node core.Node) (*metadata.Broker, error) {
	b, err := tree.DecodeBroker(node.Data)
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", id, err)
	}
	out := &metadata.Broker{ID: id, Epoch: node.Stat.Czxid, Rack: b.Rack}
	for _, e := range b.Endpoints {
		out.Endpoints = append(out.Endpoints, metadata.Endpoint(e))
	}
	return out, nil
}

// endpointFor finds the endpoint for brokers to speak to each other: that of the
// listener, or the first one.
func endpointFor(b *metadata.Broker, listener string) (metadata.Endpoint, bool) {
	if e, ok := b.Endpoint(listener); ok {
		return e, true
	}
	if len(b.Endpoints) == 0 {
		return metadata.Endpoint{}, false
	}
	return b.Endpoints[0], true
}
