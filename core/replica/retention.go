package replica

import (
	"context"
	"slices"

	"github.com/millrace/millrace/core"
)

// rolledAtOnce is how many partitions may wait for a look at retention after a roll;
// the others are looked at when the interval is over.
const rolledAtOnce = 256

// retainSoon asks for a look at the retention of a partition that has rolled.
func (m *Manager) retainSoon(p *Partition) {
	select {
	case m.retain <- p:
	default:
	}
}

func (m *Manager) retentionLoop(ctx context.Context) {
	t := m.o.Clock.NewTimer(m.o.RetentionInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-m.retain:
			m.retainOf(ctx, []*Partition{p})
		case <-t.C():
			t.Reset(m.o.RetentionInterval)
			m.Retain(ctx)
		}
	}
}

// Retain asks the retention policies about every log that this broker leads, one
// call for each policy, and deletes what they allow, up to the high watermark. It is
// called in the background.
func (m *Manager) Retain(ctx context.Context) { m.retainOf(ctx, m.all()) }

func (m *Manager) retainOf(ctx context.Context, parts []*Partition) {
	if m.o.Retention == nil {
		return
	}
	views := map[string][]core.LogView{}
	for _, p := range parts {
		if cfg := p.cfg.Load(); cfg.Delete && p.IsLeader() && p.fault.Load() == nil {
			if v := p.view(); v.End > v.Start {
				views[cfg.RetentionPolicy] = append(views[cfg.RetentionPolicy], v)
			}
		}
	}
	for name, logs := range views {
		if ctx.Err() != nil {
			return
		}
		policy, ok := m.o.Retention(name)
		if !ok {
			m.log.Error("a topic names a retention policy that is not there; nothing is deleted", "policy", name, "topic", logs[0].Topic)
			continue
		}
		m.addCommits(ctx, policy, logs)
		decisions, err := policy.Decide(ctx, logs)
		if err != nil {
			m.log.Error("a retention policy failed; nothing is deleted", "policy", name, "error", err)
			continue
		}
		for _, d := range decisions {
			if p, ok := m.Partition(d.Topic, d.Partition); ok {
				p.decided(ctx, name, d)
			}
		}
	}
}

// addCommits fills in what groups have committed, for a policy that may want to know.
// That is after the views were made: a high watermark that is older than the commits
// is the safer one.
func (m *Manager) addCommits(ctx context.Context, policy core.Retention, logs []core.LogView) {
	if i, ok := policy.(core.IgnoresCommits); m.o.Commits == nil || ok && i.IgnoresCommits() {
		return
	}
	topics := make([]string, 0, len(logs))
	for i := range logs {
		topics = append(topics, logs[i].Topic)
	}
	slices.Sort(topics)
	by, complete := m.o.Commits.Committed(ctx, slices.Compact(topics))
	for i := range logs {
		logs[i].Committed, logs[i].CommittedComplete = by[logs[i].Topic].of(logs[i].Partition), complete
	}
}

// view is the log as a policy sees it.
func (p *Partition) view() core.LogView {
	cfg := p.cfg.Load()
	hw := p.hw.Load()
	st := p.log.State()
	return core.LogView{
		TopicPartition: p.tp, Config: cfg.Values(),
		RetentionBytes: cfg.RetentionBytes, RetentionTime: cfg.RetentionTime,
		Start: p.start.Load(), End: st.End, HighWatermark: hw, Segments: st.Segments, Now: p.m.o.Clock.Now(),
	}
}

// decided does what a policy has decided, as far as it may: never past the high
// watermark, never backward.
func (p *Partition) decided(ctx context.Context, policy string, d core.Decision) {
	p.write.Lock()
	defer p.write.Unlock()
	start := min(d.Start, p.hw.Load())
	if !p.IsLeader() || p.fault.Load() != nil || start <= p.start.Load() {
		return
	}
	old := p.start.Load()
	if start == p.end.Load() && p.segment.base < start {
		// The active segment has expired as well: it can only go when it is not active.
		if err := p.roll(ctx, p.m.nowMS()); err != nil {
			p.m.log.Error("cannot roll a segment that has expired", "partition", p.tp.String(), "error", err)
			return
		}
	}
	before := p.size()
	if err := p.trim(ctx, start); err != nil {
		p.m.log.Error("cannot delete old records", "partition", p.tp.String(), "error", err)
		return
	}
	p.meter.Deleted(before - p.size())
	p.m.log.Info("deleted old records", "partition", p.tp.String(), "from", old, "to", start, "policy", policy, "reason", d.Reason)
}
