package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/tree"
)

// Rules say what a configuration becomes when it is altered, or why it must not be:
// a *config.Snapshot.
type Rules interface {
	AlterTopic(current map[string]string, changes []config.Change, replace bool) (map[string]string, error)
	AlterBroker(perBroker bool, changes []config.Change, replace bool) (map[string]string, error)
	AlterGroup(current map[string]string, changes []config.Change, replace bool) (map[string]string, error)
}

var _ Rules = (*config.Snapshot)(nil)

// settings turns a map into changes that set it, in order of the names.
func settings(configs map[string]string) []config.Change {
	out := make([]config.Change, 0, len(configs))
	for _, name := range sortedNames(configs) {
		v := configs[name]
		out = append(out, config.Change{Name: name, Op: config.OpSet, Value: &v})
	}
	return out
}

// AlterConfigs implements Admin. Any broker does it, not only the controller; the
// settings of a single broker are altered by that broker.
func (c *Controller) AlterConfigs(ctx context.Context, alterations []ConfigAlteration, validateOnly bool) []error {
	errs := make([]error, len(alterations))
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	type target struct {
		typ  ResourceType
		name string
	}
	seen := map[target]int{}
	for _, a := range alterations {
		seen[target{a.Type, a.Name}]++
	}
	for i, a := range alterations {
		switch {
		case seen[target{a.Type, a.Name}] > 1:
			errs[i] = core.Failf(kerr.InvalidRequest.Code, "Error due to duplicate config resources: %q is named twice in one request.", a.Name)
		case r == nil:
			errs[i] = core.Failf(kerr.CoordinatorNotAvailable.Code, "The broker has no coordination session at the moment; try again.")
		default:
			errs[i] = c.alter(ctx, r.session, a, validateOnly)
		}
	}
	return errs
}

func (c *Controller) alter(ctx context.Context, s core.CoordinatorSession, a ConfigAlteration, validateOnly bool) error {
	e, err := c.entityOf(ctx, s, a)
	if err != nil {
		return err
	}
	changes := make([]config.Change, len(a.Changes))
	for i, ch := range a.Changes {
		changes[i] = config.Change{Name: ch.Name, Op: config.Op(ch.Op), Value: ch.Value}
	}
	for {
		current, old, err := readConfig(ctx, s, e)
		var broken *brokenConfigError
		if errors.As(err, &broken) && a.Replace {
			err = nil // it is overwritten
		}
		if err != nil {
			return alterError(ctx, e, err)
		}
		next, err := c.altered(ctx, a, e, current, old, changes)
		if err != nil || validateOnly {
			return err
		}
		// Groups come and go by the thousand: one without settings leaves nothing behind.
		forget := a.Type == GroupResource && len(next) == 0
		if forget && old == (core.Stat{}) {
			return nil
		}
		put := putConfig(e, next, old)
		if forget {
			put = core.Delete(e.Path(), old.Version)
		}
		ops := []core.Op{put, core.CreateSequential(tree.ConfigChangePrefix, tree.EncodeConfigChange(e))}
		if a.Type == TopicResource { // a topic that is going away must not leave a configuration
			node, err := s.Get(ctx, tree.TopicPath(a.Name))
			if err != nil {
				return alterError(ctx, e, err)
			}
			ops = append(ops, core.Check(tree.TopicPath(a.Name), node.Stat.Version))
		}
		res, err := s.Commit(ctx, ops...)
		switch {
		case err == nil && forget:
			return c.cfg.Feed.forgotten(ctx, e, old.Mzxid)
		case err == nil:
			return c.cfg.Feed.applied(ctx, e, res[0].Stat.Mzxid)
		case errors.Is(err, core.ErrBadVersion), errors.Is(err, core.ErrNodeExists), errors.Is(err, core.ErrNotFound):
			if ctx.Err() == nil {
				continue // somebody else was quicker: look again
			}
		}
		return alterError(ctx, e, err)
	}
}

// entityOf finds what an alteration is about.
func (c *Controller) entityOf(ctx context.Context, s core.CoordinatorSession, a ConfigAlteration) (tree.Entity, error) {
	switch a.Type {
	case TopicResource:
		e := tree.Entity{Type: tree.TopicConfigs, Name: a.Name}
		if err := CheckTopicName(a.Name); err != nil {
			return e, err
		}
		_, err := s.Get(ctx, tree.TopicPath(a.Name))
		return e, alterError(ctx, e, err)
	case BrokerResource:
		if a.Name == "" {
			return tree.Entity{Type: tree.BrokerConfigs, Name: tree.DefaultEntity}, nil
		}
		if id, err := strconv.ParseInt(a.Name, 10, 32); err != nil || int32(id) != c.cfg.BrokerID {
			return tree.Entity{}, core.Failf(kerr.InvalidRequest.Code,
				"Unexpected broker id, expected %d or empty string, but received %s", c.cfg.BrokerID, a.Name)
		}
		return tree.Entity{Type: tree.BrokerConfigs, Name: strconv.Itoa(int(c.cfg.BrokerID))}, nil
	case GroupResource:
		return tree.GroupEntity(a.Name), checkGroupID(a.Name)
	default:
		return tree.Entity{}, core.Failf(kerr.InvalidRequest.Code, "Unsupported resource type %d", a.Type)
	}
}

// altered answers what the configuration becomes.
func (c *Controller) altered(ctx context.Context, a ConfigAlteration, e tree.Entity, current map[string]string, old core.Stat, changes []config.Change) (map[string]string, error) {
	switch a.Type {
	case TopicResource:
		return c.cfg.Rules().AlterTopic(current, changes, a.Replace)
	case GroupResource:
		return c.cfg.Rules().AlterGroup(current, changes, a.Replace)
	case BrokerResource:
	}
	// The rules know the brokers' settings themselves, from the feed: they must be as
	// new as what is replaced.
	if err := c.cfg.Feed.applied(ctx, e, old.Mzxid); err != nil {
		return nil, err
	}
	return c.cfg.Rules().AlterBroker(a.Name != "", changes, a.Replace)
}

func alterError(ctx context.Context, e tree.Entity, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return timedOut("the configuration was written")
	case errors.Is(err, core.ErrNotFound):
		return core.Failf(kerr.UnknownTopicOrPartition.Code, "The topic '%s' does not exist.", e.Name)
	default:
		return fmt.Errorf("alter the configuration of %s: %w", e, err)
	}
}

// configsChanged removes notifications that every broker has had the time to see,
// and lets topics elect unclean leaders that may do so now.
func (l *leadership) configsChanged(ctx context.Context) error {
	names, _, err := l.session.Children(ctx, tree.ConfigChangesPath)
	if err != nil {
		return fmt.Errorf("list configuration changes: %w", err)
	}
	now := l.cfg.Clock.Now()
	age := l.cfg.Settings().MaxConfigChangeAge
	fresh := make(map[string]time.Time, len(names))
	var altered []string // topics
	for _, name := range names {
		path := tree.ConfigChangesPath + "/" + name
		at, known := l.changes[name]
		if !known {
			at = now
			node, err := l.session.Get(ctx, path)
			if err != nil && !errors.Is(err, core.ErrNotFound) {
				return fmt.Errorf("read a configuration change: %w", err)
			}
			if e, err := tree.DecodeConfigChange(node.Data); err == nil && e.Type == tree.TopicConfigs {
				altered = append(altered, e.Name)
			}
		}
		if now.Sub(at) < age {
			fresh[name] = at
			continue
		}
		if err := l.remove(ctx, path); err != nil {
			return err
		}
	}
	l.changes = fresh
	if len(fresh) > 0 {
		l.after(age, "purge configuration changes", l.configsChanged)
	}
	for _, name := range altered {
		t, ok := l.topics[name]
		if !ok || t.deletion != nil {
			continue
		}
		leaderless := slices.DeleteFunc(t.all(), func(tp core.TopicPartition) bool {
			p := t.partitions[tp.Partition]
			return p.version < 0 || p.state.Leader != noLeader
		})
		if err := l.heal(ctx, leaderless, false); err != nil {
			return err
		}
	}
	return nil
}
