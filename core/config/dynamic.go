package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Dynamic is the configuration of a running broker: what it was started with,
// under what was altered since. Whoever learns of an alteration (from the
// coordination) tells it with the Set methods; everybody else reads. Safe for
// concurrent use; reading never waits for writing.
type Dynamic struct {
	snapshot atomic.Pointer[Snapshot]

	mu      sync.Mutex // orders changes; guards topics; taken before groupsMu
	topics  map[string]*TopicRef
	changed chan struct{}

	groupsMu sync.RWMutex
	groups   map[string]*Group
}

// Snapshot is one state of the broker's configuration. It is immutable.
type Snapshot struct {
	static         *Static
	perBroker      map[string]string
	clusterDefault map[string]string
	broker         *Broker
	topicBase      map[string]string
	groupBase      map[string]string
	defaultGroup   *Group
}

// TopicRef always has the newest configuration of one topic. Keep it where the
// configuration is needed on a hot path: reading costs an atomic load.
type TopicRef struct {
	current atomic.Pointer[Topic]
}

// Load is the newest configuration.
func (r *TopicRef) Load() *Topic { return r.current.Load() }

// NewDynamic starts with what the broker was started with.
func NewDynamic(s *Static) (*Dynamic, error) {
	d := &Dynamic{topics: make(map[string]*TopicRef), groups: make(map[string]*Group), changed: make(chan struct{})}
	snap, err := newSnapshot(s, nil, nil)
	if err != nil {
		return nil, err
	}
	d.snapshot.Store(snap)
	return d, nil
}

func newSnapshot(s *Static, perBroker, clusterDefault map[string]string) (*Snapshot, error) {
	snap := &Snapshot{static: s, perBroker: perBroker, clusterDefault: clusterDefault}
	snap.topicBase, snap.groupBase = inherited(s.table.topic, snap.Get), inherited(s.table.group, snap.Get)
	var errs []error
	checker{get: snap.Get, given: snap.isGiven, complain: func(name string, err error) {
		errs = append(errs, invalid("%s: %s", name, err))
	}}.all()
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var err error
	if snap.defaultGroup, err = newGroup(snap.groupBase, nil); err != nil {
		return nil, err
	}
	snap.broker, err = newBroker(snap.Get, snap.isGiven, snap.topicBase)
	return snap, err
}

// Get is the value that counts now: the one for this broker, else the one for all
// brokers, else what Static.Get answers.
func (s *Snapshot) Get(name string) (string, bool) {
	for _, values := range []map[string]string{s.perBroker, s.clusterDefault} {
		if v, ok := values[name]; ok {
			return v, true
		}
	}
	set, known := s.static.table.broker[name]
	if !known || s.static.isGiven(name) {
		return s.static.Get(name)
	}
	for _, values := range []map[string]string{s.perBroker, s.clusterDefault} {
		for _, syn := range set.Synonyms {
			if v, ok := values[syn.Name]; ok {
				return scaled(strings.TrimSpace(v), syn.Factor), true
			}
		}
	}
	return s.static.Get(name)
}

func (s *Snapshot) isGiven(name string) bool {
	_, a := s.perBroker[name]
	_, b := s.clusterDefault[name]
	return a || b || s.static.isGiven(name)
}

// Broker is the typed view. It shows altered values; those of read-only settings
// cannot differ from the start.
func (s *Snapshot) Broker() *Broker { return s.broker }

// Static is what the broker was started with.
func (s *Snapshot) Static() *Static { return s.static }

// PerBroker and ClusterDefault are what was altered. The caller must not change
// the maps.
func (s *Snapshot) PerBroker() map[string]string { return s.perBroker }

// ClusterDefault is what was altered for all brokers.
func (s *Snapshot) ClusterDefault() map[string]string { return s.clusterDefault }

// Snapshot is the newest state of the broker's configuration.
func (d *Dynamic) Snapshot() *Snapshot { return d.snapshot.Load() }

// Broker is the typed view of the newest state.
func (d *Dynamic) Broker() *Broker { return d.snapshot.Load().broker }

// Changed returns a channel that is closed at the next change of anything. Take it
// before reading, so that no change is missed.
func (d *Dynamic) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// notify is called with mu held.
func (d *Dynamic) notify() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Topic is the newest configuration of a topic; that of a topic without settings of
// its own when nothing is known of it. It makes no reference; see TopicRef.
func (d *Dynamic) Topic(name string) *Topic {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ref, ok := d.topics[name]; ok {
		return ref.Load()
	}
	return d.snapshot.Load().broker.DefaultTopic
}

// TopicRef is a reference to the configuration of a topic that follows its changes
// until DeleteTopic.
func (d *Dynamic) TopicRef(name string) *TopicRef {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ref(name)
}

func (d *Dynamic) ref(name string) *TopicRef {
	ref, ok := d.topics[name]
	if !ok {
		ref = &TopicRef{}
		ref.current.Store(d.snapshot.Load().broker.DefaultTopic)
		d.topics[strings.Clone(name)] = ref
	}
	return ref
}

// SetTopic replaces the settings of a topic. Settings that are unknown or do not
// fit, which another program may have stored, are left out, and the error names
// them; the others count.
func (d *Dynamic) SetTopic(name string, overrides map[string]string) (*Topic, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	snap := d.snapshot.Load()
	kept, errs := snap.static.table.usable(overrides)
	t, err := newTopic(snap.topicBase, kept)
	if err != nil {
		return d.ref(name).Load(), fmt.Errorf("configuration of topic %s: %w", name, err)
	}
	if len(kept) == 0 {
		t = snap.broker.DefaultTopic
	}
	d.ref(name).current.Store(t)
	d.notify()
	if len(errs) > 0 {
		return t, fmt.Errorf("configuration of topic %s: %w", name, errors.Join(errs...))
	}
	return t, nil
}

// usable leaves out what cannot be used.
func (t *Table) usable(overrides map[string]string) (map[string]string, []error) {
	kept := make(map[string]string, len(overrides))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if err := t.CheckTopic(map[string]string{name: overrides[name]}); err != nil {
			errs = append(errs, err)
			continue
		}
		kept[name] = overrides[name]
	}
	return kept, errs
}

// DeleteTopic forgets a topic. References to it keep what they have.
func (d *Dynamic) DeleteTopic(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.topics, name)
	d.notify()
}

// SetBroker replaces what was altered for this broker. Settings that are unknown,
// read-only or do not fit are left out, and the error names them; the others count.
// When the rest does not go together nothing changes.
func (d *Dynamic) SetBroker(values map[string]string) error {
	return d.setBroker(values, true)
}

// SetClusterDefault replaces what was altered for all brokers, like SetBroker.
func (d *Dynamic) SetClusterDefault(values map[string]string) error {
	return d.setBroker(values, false)
}

func (d *Dynamic) setBroker(values map[string]string, perBroker bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.snapshot.Load()
	kept := make(map[string]string, len(values))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := old.static.table.checkBroker(name, values[name], perBroker); err != nil {
			errs = append(errs, err)
			continue
		}
		kept[name] = values[name]
	}
	next := [2]map[string]string{kept, old.clusterDefault}
	if !perBroker {
		next = [2]map[string]string{old.perBroker, kept}
	}
	snap, err := newSnapshot(old.static, next[0], next[1])
	if err != nil {
		return fmt.Errorf("altered configuration of the broker: %w", errors.Join(append(errs, err)...))
	}
	d.snapshot.Store(snap)
	for name, ref := range d.topics {
		t, err := newTopic(snap.topicBase, ref.Load().overrides)
		if err != nil {
			errs = append(errs, fmt.Errorf("topic %s: %w", name, err))
			continue
		}
		if len(t.overrides) == 0 {
			t = snap.broker.DefaultTopic
		}
		ref.current.Store(t)
	}
	d.notify()
	if len(errs) > 0 {
		return fmt.Errorf("altered configuration of the broker: %w", errors.Join(errs...))
	}
	return nil
}
