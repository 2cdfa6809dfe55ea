package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Group is the configuration of one group of the consumer protocol (KIP-848), parsed.
// It is immutable and may be shared.
type Group struct {
	Session   time.Duration // consumer.session.timeout.ms
	Heartbeat time.Duration // consumer.heartbeat.interval.ms

	base      map[string]string // values of the broker's settings; shared by groups
	overrides map[string]string
}

// Value is the effective value of a group setting, as text.
func (g *Group) Value(name string) (string, bool) { return effective(g.overrides, g.base, name) }

// Overrides are the settings that were given for the group itself. The caller must not
// change the map.
func (g *Group) Overrides() map[string]string { return g.overrides }

// newGroup builds the view. base has the values of all group settings by the broker's
// configuration; groups share it. All values have been checked.
func newGroup(base, overrides map[string]string) (*Group, error) {
	g := &Group{base: base, overrides: maps.Clone(overrides)}
	r := reader{get: g.Value}
	g.Session, g.Heartbeat = r.ms(groupSession), r.ms(groupHeartbeat)
	return g, r.err
}

// The group settings, and what the names of their bounds end with.
const (
	groupSession   = "consumer.session.timeout.ms"
	groupHeartbeat = "consumer.heartbeat.interval.ms"
)

// checkGroup holds the rules of Kafka's GroupConfig: every name is known, every value
// fits and is within the broker's bounds, and the values go together. The error is a
// *core.KafkaError with INVALID_CONFIG.
func (s *Snapshot) checkGroup(overrides map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if err := s.checkGroupSetting(name, overrides[name]); err != nil {
			return err
		}
	}
	number := func(name string) int64 {
		v, _ := effective(overrides, s.groupBase, name)
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	if session, beat := number(groupSession), number(groupHeartbeat); session <= beat {
		return invalid("%s (%d) must be greater than %s (%d), or every member would be taken for dead: alter both in one request",
			groupSession, session, groupHeartbeat, beat)
	}
	return nil
}

func (s *Snapshot) checkGroupSetting(name, value string) error {
	set, ok := s.static.table.group[name]
	if !ok {
		return invalid("Unknown group config name: %s", name)
	}
	if err := set.Check(value); err != nil {
		return invalid("%s", err)
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	of, _ := strings.CutPrefix(name, "consumer.")
	for _, b := range []struct {
		name, relation, give, move string
		beyond                     func(bound int64) bool
	}{
		{"group.consumer.min." + of, "greater", "at least", "lower", func(bound int64) bool { return n < bound }},
		{"group.consumer.max." + of, "less", "at most", "raise", func(bound int64) bool { return n > bound }},
	} {
		v, _ := s.Get(b.name)
		bound, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		if b.beyond(bound) {
			return invalid("%s must be %s than or equal to %s, and %d is not: give %s %d, or %s the broker's setting in server.properties and restart",
				name, b.relation, b.name, n, b.give, bound, b.move)
		}
	}
	return nil
}

// AlterGroup answers what the settings of a group become; see AlterTopic.
func (s *Snapshot) AlterGroup(current map[string]string, changes []Change, replace bool) (map[string]string, error) {
	next, err := apply(current, changes, replace, func(name string) (*Setting, string, error) {
		set, ok := s.static.table.group[name]
		if !ok {
			return nil, "", invalid("Unknown group config name: %s", name)
		}
		return set, s.groupBase[name], nil
	})
	if err != nil {
		return nil, err
	}
	return next, s.checkGroup(next)
}

// usableGroup leaves out what cannot be used: a setting by itself, or all of them when
// they do not go together.
func (s *Snapshot) usableGroup(overrides map[string]string) (map[string]string, error) {
	kept := make(map[string]string, len(overrides))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if err := s.checkGroupSetting(name, overrides[name]); err != nil {
			errs = append(errs, err)
			continue
		}
		kept[name] = overrides[name]
	}
	if err := s.checkGroup(kept); err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	return kept, errors.Join(errs...)
}

// Group is the newest configuration of a group; the defaults where it has none. It does
// not wait for a change of anything but groups.
func (d *Dynamic) Group(id string) *Group {
	d.groupsMu.RLock()
	defer d.groupsMu.RUnlock()
	if g, ok := d.groups[id]; ok {
		return g
	}
	return d.snapshot.Load().defaultGroup
}

// Groups are the ids of the groups that have a configuration, in order.
func (d *Dynamic) Groups() []string {
	d.groupsMu.RLock()
	defer d.groupsMu.RUnlock()
	return slices.Sorted(maps.Keys(d.groups))
}

// SetGroup replaces the settings of a group; without any, it has none any more.
// Settings that are unknown, or that the broker's bounds do not allow any longer, are
// left out, and the error names them; the others count.
func (d *Dynamic) SetGroup(id string, overrides map[string]string) error {
	d.mu.Lock() // the bounds stay what they are
	defer d.mu.Unlock()
	snap := d.snapshot.Load()
	kept, left := snap.usableGroup(overrides)
	g, err := newGroup(snap.groupBase, kept)
	if err != nil {
		return fmt.Errorf("configuration of group %s: %w", id, err)
	}
	d.groupsMu.Lock()
	if len(overrides) == 0 {
		delete(d.groups, id)
	} else {
		d.groups[strings.Clone(id)] = g
	}
	d.groupsMu.Unlock()
	d.notify()
	if left != nil {
		return fmt.Errorf("configuration of group %s: %w", id, left)
	}
	return nil
}
