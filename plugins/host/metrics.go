package host

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// Collector shows how the plugins do, and what they count themselves: their metric x is
// millrace_plugin_x with the label plugin.
func (h *Host) Collector() prometheus.Collector { return &collector{host: h} }

type collector struct{ host *Host }

// collectTimeout is how long a plugin may take to answer what it counts. One that takes
// longer is left out of the page.
const collectTimeout = time.Second

// maxMetrics bounds the metrics of one plugin.
const maxMetrics = 1000

// Describe implements prometheus.Collector: what plugins count is not known before.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millrace_plugin_"+name, help, append([]string{"plugin"}, labels...), nil)
	}
	up := desc("up", "1 while the plugin's process runs and is ready.")
	counters := []struct {
		desc *prometheus.Desc
		of   func(*Status) uint64
	}{
		{desc("restarts_total", "Starts of the plugin's process after the first."), func(s *Status) uint64 { return s.Restarts }},
		{desc("calls_total", "Calls of the plugin."), func(s *Status) uint64 { return s.Calls }},
		{desc("failures_total", "Calls of the plugin that failed, also when they were made once more."), func(s *Status) uint64 { return s.Failures }},
		{desc("retries_total", "Calls that were made once more."), func(s *Status) uint64 { return s.Retries }},
		{desc("fallbacks_total", "Times that a built-in did the plugin's work."), func(s *Status) uint64 { return s.Fallbacks }},
		{desc("nonsense_total", "Answers that made no sense and were not followed."), func(s *Status) uint64 { return s.Nonsense }},
	}
	open := desc("breaker_open", "1 while a component is left alone because it has failed too often.", "component")
	for _, s := range c.host.List() {
		running := 0.0
		if s.State == Running {
			running = 1
		}
		out <- prometheus.MustNewConstMetric(up, prometheus.GaugeValue, running, s.Name)
		for _, m := range counters {
			out <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.of(&s)), s.Name)
		}
		for _, comp := range s.Components {
			v := 0.0
			if comp.BreakerOpen {
				v = 1
			}
			out <- prometheus.MustNewConstMetric(open, prometheus.GaugeValue, v, s.Name, comp.Seam+" "+comp.Name)
		}
	}
	kinds := map[string]kind{}
	for i, all := range c.bridge() {
		for _, m := range usable(all, kinds) {
			out <- bridged(c.host.plugins[i].spec.Name, m)
		}
	}
}

// bridge asks all plugins at once what they count.
func (c *collector) bridge() [][]*pb.Metric {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	answers := make([][]*pb.Metric, len(c.host.plugins))
	var wg sync.WaitGroup
	for i, p := range c.host.plugins {
		proc := p.current()
		if proc == nil {
			continue
		}
		wg.Go(func() {
			reply, err := pb.NewPluginClient(proc.conn).Collect(ctx, &pb.CollectRequest{})
			if err != nil {
				return // it shows in the plugin's health
			}
			answers[i] = reply.Metrics
		})
	}
	wg.Wait()
	return answers
}

var (
	metricName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	labelName  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// taken are the names that the host uses itself.
func taken(name string) bool {
	switch name {
	case "up", "restarts_total", "calls_total", "failures_total", "retries_total", "fallbacks_total", "nonsense_total", "breaker_open":
		return true
	default:
		return false
	}
}

// kind is what all metrics of one name must have in common.
type kind struct {
	help    string
	counter bool
	labels  string
}

// usable leaves out what Prometheus would refuse, so that a plugin cannot spoil the page:
// bad names, the same metric twice, and one name with two kinds, helps or sets of labels,
// also over several plugins: kinds has what the earlier ones have.
func usable(ms []*pb.Metric, kinds map[string]kind) []*pb.Metric {
	seen := map[string]bool{}
	var out []*pb.Metric
	for _, m := range ms[:min(len(ms), maxMetrics)] {
		names := slices.Sorted(maps.Keys(m.GetLabels()))
		if !metricName.MatchString(m.GetName()) || taken(m.GetName()) || slices.Contains(names, "plugin") ||
			slices.ContainsFunc(names, func(n string) bool { return !labelName.MatchString(n) }) {
			continue
		}
		k, id := kind{m.GetHelp(), m.GetCounter(), ""}, m.GetName()
		for _, n := range names {
			k.labels += n + ","
			id += "\x00" + n + "\x00" + m.GetLabels()[n]
		}
		if have, ok := kinds[m.GetName()]; ok && have != k || seen[id] {
			continue
		}
		kinds[m.GetName()], seen[id] = k, true
		out = append(out, m)
	}
	return out
}

func bridged(plugin string, m *pb.Metric) prometheus.Metric {
	names := slices.Sorted(maps.Keys(m.Labels))
	values := []string{plugin}
	for _, n := range names {
		values = append(values, m.Labels[n])
	}
	d := prometheus.NewDesc("millrace_plugin_"+m.Name, m.Help, append([]string{"plugin"}, names...), nil)
	kind := prometheus.GaugeValue
	if m.Counter {
		kind = prometheus.CounterValue
	}
	metric, err := prometheus.NewConstMetric(d, kind, m.Value, values...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err) // a value that is no UTF-8
	}
	return metric
}
