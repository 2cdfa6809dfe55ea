package plugin

import (
	"math"
	"sync"
	"sync/atomic"

	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// Metrics are a plugin's own figures, which its broker shows among its own as
// millrace_plugin_NAME with the label plugin. Make it with NewMetrics and give it to
// WithMetrics. Safe for concurrent use.
type Metrics struct {
	mu  sync.Mutex
	all []*Metric
}

// NewMetrics makes an empty set.
func NewMetrics() *Metrics { return &Metrics{} }

// WithMetrics lets the broker collect the metrics.
func WithMetrics(m *Metrics) Option {
	return func(c *config) error {
		c.metrics = m
		return nil
	}
}

// Metric is one figure. Safe for concurrent use.
type Metric struct {
	name, help string
	counter    bool
	labels     map[string]string
	bits       atomic.Uint64
}

// Counter adds a figure that only grows. Its name ends in _total by custom; labels may
// be nil.
func (m *Metrics) Counter(name, help string, labels map[string]string) *Metric {
	return m.add(&Metric{name: name, help: help, counter: true, labels: labels})
}

// Gauge adds a figure that goes up and down.
func (m *Metrics) Gauge(name, help string, labels map[string]string) *Metric {
	return m.add(&Metric{name: name, help: help, labels: labels})
}

func (m *Metrics) add(metric *Metric) *Metric {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, metric)
	return metric
}

// Add adds to the figure.
func (m *Metric) Add(d float64) {
	for {
		old := m.bits.Load()
		if m.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+d)) {
			return
		}
	}
}

// Set replaces the figure; for gauges.
func (m *Metric) Set(v float64) { m.bits.Store(math.Float64bits(v)) }

func (m *Metrics) collect() []*pb.Metric {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*pb.Metric, 0, len(m.all))
	for _, metric := range m.all {
		out = append(out, &pb.Metric{
			Name: metric.name, Help: metric.help, Counter: metric.counter, Labels: metric.labels,
			Value: math.Float64frombits(metric.bits.Load()),
		})
	}
	return out
}
