package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

// outbox is the ordered queue of requests to one broker under one registration.
// While a request is under way, or fails and is tried again, later ones merge:
// what a partition was meant to be in between is never sent.
type outbox struct {
	l          *leadership
	log        *slog.Logger
	broker     metadata.Broker
	controller int32
	epoch      int32

	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	held    bool // nothing is sent before the broker has been told everything at once
	live    liveBrokers
	batches []*batch
	wake    chan struct{} // capacity one
}

// batch is at most one request of each kind, sent in the order of the fields. A
// partition is never both in states and in stops.
type batch struct {
	live       liveBrokers
	states     map[core.TopicPartition]stateEntry
	fullStates bool
	metas      map[core.TopicPartition]metaEntry
	fullMetas  bool
	tellMetas  bool // also without metas, for the brokers' sake
	stops      map[core.TopicPartition]stopEntry
	ids        map[string]core.TopicID // of the topics in states and metas
}

func newBatch() *batch {
	return &batch{
		states: map[core.TopicPartition]stateEntry{},
		metas:  map[core.TopicPartition]metaEntry{},
		stops:  map[core.TopicPartition]stopEntry{},
		ids:    map[string]core.TopicID{},
	}
}

func newOutbox(l *leadership, b *metadata.Broker) *outbox {
	o := &outbox{
		l: l, log: l.log.With("to", b.ID), broker: *b, controller: l.cfg.BrokerID, epoch: l.epoch,
		wake: make(chan struct{}, 1), held: true,
	}
	o.ctx, o.cancel = context.WithCancel(l.ctx)
	return o
}

// close ends the queue; the requests in it are for nobody any more.
func (o *outbox) close() { o.cancel() }

// edit changes the last batch, or begins another one where clash says that the
// change may not be merged into it.
func (o *outbox) edit(clash func(*batch) bool, change func(*batch)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.batches)
	if n == 0 || clash != nil && clash(o.batches[n-1]) {
		o.batches = append(o.batches, newBatch())
		n++
	}
	b := o.batches[n-1]
	b.live = o.live
	change(b)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) state(tp core.TopicPartition, e stateEntry) {
	o.edit(func(b *batch) bool { return b.stops[tp].remove || b.clashes(tp, e.id) }, func(b *batch) { b.addState(tp, e) })
}

func (o *outbox) meta(tp core.TopicPartition, e metaEntry) {
	o.edit(func(b *batch) bool { return b.clashes(tp, e.id) }, func(b *batch) { b.addMeta(tp, e) })
}

func (o *outbox) stop(tp core.TopicPartition, e stopEntry) {
	o.edit(nil, func(b *batch) { b.addStop(tp, e) })
}

// brokersChanged tells the broker which brokers live.
func (o *outbox) brokersChanged(live liveBrokers) {
	o.mu.Lock()
	o.live = live
	o.mu.Unlock()
	o.edit(nil, func(b *batch) { b.tellMetas = true })
}

// everything says that what follows names all there is.
func (o *outbox) everything() {
	o.edit(nil, func(b *batch) { b.fullStates, b.fullMetas = true, true })
}

// release lets a new outbox send. Until then what it is to say may be there in part:
// a request that claims to name everything and does not would make the broker take
// the rest for gone.
func (o *outbox) release() {
	o.mu.Lock()
	o.held = false
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// clashes reports whether the batch speaks of another topic of that name: its end
// must be told before another one begins.
func (b *batch) clashes(tp core.TopicPartition, id core.TopicID) bool {
	other, ok := b.ids[tp.Topic]
	return ok && other != id
}

func (b *batch) addState(tp core.TopicPartition, e stateEntry) {
	if old, ok := b.states[tp]; ok {
		e.state.IsNew = e.state.IsNew || old.state.IsNew
		e.look = e.look || old.look
	}
	delete(b.stops, tp)
	b.states[tp], b.ids[tp.Topic] = e, e.id
}

func (b *batch) addMeta(tp core.TopicPartition, e metaEntry) {
	b.metas[tp], b.ids[tp.Topic], b.tellMetas = e, e.id, true
}

func (b *batch) addStop(tp core.TopicPartition, e stopEntry) {
	e.remove = e.remove || b.stops[tp].remove
	delete(b.states, tp)
	b.stops[tp] = e
}

// run sends what is queued until the outbox is closed.
func (o *outbox) run() {
	for failures := 0; ; {
		b, ok := o.next()
		if !ok {
			return
		}
		err := o.send(b)
		if err == nil {
			failures = 0
			continue
		}
		if o.ctx.Err() != nil {
			return
		}
		o.log.Warn("controller: a request to a broker failed; trying again", "error", err)
		o.putBack(b)
		s := o.l.cfg.Settings()
		if !sleep(o.ctx, o.l.cfg.Clock, backoff(s.RetryBackoff, s.MaxRetryBackoff, failures)) {
			return
		}
		failures++
	}
}

// next waits for the oldest batch and takes it out.
func (o *outbox) next() (*batch, bool) {
	for {
		o.mu.Lock()
		if len(o.batches) > 0 && !o.held && o.ctx.Err() == nil {
			b := o.batches[0]
			o.batches = slices.Delete(o.batches, 0, 1)
			o.mu.Unlock()
			return b, true
		}
		o.mu.Unlock()
		select {
		case <-o.wake:
		case <-o.ctx.Done():
			return nil, false
		}
	}
}

// putBack queues a batch again whose sending failed, merged with the one behind it
// where that is possible.
func (o *outbox) putBack(b *batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.batches) > 0 && b.absorb(o.batches[0]) {
		o.batches[0] = b
		return
	}
	o.batches = slices.Insert(o.batches, 0, b)
}

// absorb merges a later batch, or reports that it may not.
func (b *batch) absorb(later *batch) bool {
	for tp, e := range later.metas {
		if b.clashes(tp, e.id) {
			return false
		}
	}
	for tp, e := range later.states {
		if b.stops[tp].remove || b.clashes(tp, e.id) {
			return false
		}
	}
	for tp, e := range later.states {
		b.addState(tp, e)
	}
	for tp, e := range later.metas {
		b.addMeta(tp, e)
	}
	for tp, e := range later.stops {
		b.addStop(tp, e)
	}
	b.live = later.live
	b.fullStates = b.fullStates || later.fullStates
	b.fullMetas = b.fullMetas || later.fullMetas
	b.tellMetas = b.tellMetas || later.tellMetas
	return true
}

// send sends the requests of a batch; those that were answered leave it.
func (o *outbox) send(b *batch) error {
	if len(b.states) > 0 || b.fullStates {
		resp, err := exchange[*kmsg.LeaderAndISRResponse](o, b.leaderAndISR(o))
		if err != nil {
			return err
		}
		if err := o.check("LeaderAndISR", resp.ErrorCode); err != nil {
			return err
		}
		o.report(b, resp)
		clear(b.states)
		b.fullStates = false
	}
	if b.tellMetas || b.fullMetas {
		resp, err := exchange[*kmsg.UpdateMetadataResponse](o, b.updateMetadata(o))
		if err != nil {
			return err
		}
		if err := o.check("UpdateMetadata", resp.ErrorCode); err != nil {
			return err
		}
		clear(b.metas)
		b.fullMetas, b.tellMetas = false, false
	}
	if len(b.stops) > 0 {
		resp, err := exchange[*kmsg.StopReplicaResponse](o, b.stopReplica(o))
		if err != nil {
			return err
		}
		if err := o.check("StopReplica", resp.ErrorCode); err != nil {
			return err
		}
		o.stopped(resp)
		clear(b.stops)
	}
	return nil
}

// exchange sends one request within the time that one may take.
func exchange[R kmsg.Response](o *outbox, req kmsg.Request) (R, error) {
	var none R
	name := kmsg.NameForKey(req.Key())
	ctx, cancel := context.WithCancel(o.ctx)
	defer cancel()
	timer := o.l.cfg.Clock.AfterFunc(o.l.cfg.Settings().RequestTimeout, cancel)
	defer timer.Stop()
	resp, err := o.l.cfg.Sender.Send(ctx, o.broker.ID, req)
	if err != nil {
		return none, fmt.Errorf("send %s to broker %d: %w", name, o.broker.ID, err)
	}
	r, ok := resp.(R)
	if !ok {
		return none, fmt.Errorf("send %s to broker %d: the answer is a %T", name, o.broker.ID, resp)
	}
	return r, nil
}

// errRefused: the broker refused a request for a reason that may pass.
var errRefused = errors.New("refused")

// check decides about an answer's error code: whether to send the request again.
func (o *outbox) check(name string, code int16) error {
	switch code {
	case 0:
		return nil
	case kerr.StaleControllerEpoch.Code:
		o.log.Warn("controller: a broker knows a newer controller", "request", name)
		o.l.push("a newer controller", "fenced", o.l.checkOffice)
		return nil
	case kerr.StaleBrokerEpoch.Code:
		// The broker has registered again since; it will be told everything under its new
		// epoch.
		o.log.Info("controller: a broker has registered again", "request", name)
		return nil
	default:
		return fmt.Errorf("%s to broker %d: %w: %w", name, o.broker.ID, errRefused, kerr.ErrorForCode(code))
	}
}

// report passes on what a broker could not do.
func (o *outbox) report(b *batch, resp *kmsg.LeaderAndISRResponse) {
	names := make(map[core.TopicID]string, len(resp.Topics))
	for tp, e := range b.states {
		names[e.id] = tp.Topic
	}
	var offline, online []core.TopicPartition
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			tp := core.TopicPartition{Topic: names[t.TopicID], Partition: p.Partition}
			switch p.ErrorCode {
			case kerr.KafkaStorageError.Code:
				offline = append(offline, tp)
			case 0, kerr.StaleControllerEpoch.Code: // the latter: it has this state already, or a newer one
				if b.states[tp].look {
					online = append(online, tp)
				}
				continue
			}
			o.log.Warn("controller: a broker could not follow LeaderAndISR", "partition", tp, "error", kerr.ErrorForCode(p.ErrorCode))
		}
	}
	if len(offline)+len(online) == 0 {
		return
	}
	o.pushOwn("answers of replicas", func(ctx context.Context) error {
		if err := o.l.replicasFailed(ctx, o.broker.ID, offline); err != nil {
			return err
		}
		return o.l.replicasBack(ctx, o.broker.ID, online)
	})
}

func (o *outbox) stopped(resp *kmsg.StopReplicaResponse) {
	codes := make(map[core.TopicPartition]int16, len(resp.Partitions))
	for i := range resp.Partitions {
		p := &resp.Partitions[i]
		codes[core.TopicPartition{Topic: p.Topic, Partition: p.Partition}] = p.ErrorCode
	}
	o.pushOwn("stopped replicas", func(ctx context.Context) error {
		return o.l.replicasStopped(ctx, o.broker.ID, codes)
	})
}

// pushOwn queues an event that matters only while the broker has the registration
// of this outbox.
func (o *outbox) pushOwn(what string, do func(ctx context.Context) error) {
	o.l.push(what, "", func(ctx context.Context) error {
		if o.l.outboxes[o.broker.ID] != o {
			return nil
		}
		return do(ctx)
	})
}
