package plugins_test

import (
	"net/http"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/millrace/millrace/test/harness"
)

// exposed is the page of metrics; what is no exposition format fails the test.
func exposed(t *testing.T, b *harness.Broker) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get("http://" + b.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s: %v", resp.Status, err)
	}
	return all
}

// figures are the values of a metric, by plugin.
func figures(all map[string]*dto.MetricFamily, name string) map[string]float64 {
	out := map[string]float64{}
	for _, m := range all[name].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "plugin" {
				out[l.GetValue()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return out
}

// TestMetrics: what two plugins count is on one page, whatever one of them calls it, and
// goes from there with the plugin.
func TestMetrics(t *testing.T) {
	t.Parallel()
	b := harness.Start(t,
		"plugin.a.path="+program(t), "plugin.b.path="+program(t), "http.produce.enable=true",
		"plugin.a.environment=TEST_PREFIX=a", "plugin.b.environment=TEST_PREFIX=b,TEST_MODE=metrics",
		"plugin.a.start.timeout.ms=60000", "plugin.a.call.timeout.ms=60000", "plugin.b.start.timeout.ms=60000", "plugin.b.call.timeout.ms=60000",
		"plugin.b.restart.backoff.ms=3600000", "plugin.b.restart.backoff.max.ms=3600000")
	create(t, b, "of-a", 4, map[string]string{"partitioner": "a-partitioner"})
	create(t, b, "of-b", 4, map[string]string{"partitioner": "b-partitioner"})
	post(t, b, "of-a", 0, 1)
	post(t, b, "of-b", 0, 1)
	post(t, b, "of-b", 1, 1)
	var all map[string]*dto.MetricFamily
	harness.Eventually(t, "both plugins answer what they count", func() bool { // in a second, or they are left out
		all = exposed(t, b)
		f := figures(all, "millrace_plugin_test_calls_total")
		return f["a"] == 1 && f["b"] == 2
	})
	if up := figures(all, "millrace_plugin_up"); up["a"] != 1 || up["b"] != 1 || len(up) != 2 {
		t.Errorf("up: %v", up)
	}
	for name, owner := range map[string]string{"millrace_plugin_a_started_seconds": "a", "millrace_plugin_b_started_seconds": "b", "millrace_plugin_test_value": "b"} {
		if f := figures(all, name); len(f) != 1 || all[name] == nil {
			t.Errorf("%s: %v", name, f)
		} else if _, ok := f[owner]; !ok {
			t.Errorf("%s is of %v", name, f)
		}
	}
	if all["millrace_plugin_test_label"] != nil {
		t.Error("a plugin names the plugin of a metric")
	}
	kill(t, b, "b")
	harness.Eventually(t, "what the dead plugin counted is gone", func() bool {
		all = exposed(t, b)
		f, up := figures(all, "millrace_plugin_test_calls_total"), figures(all, "millrace_plugin_up")
		_, there := f["b"]
		return !there && f["a"] == 1 && up["a"] == 1 && up["b"] == 0 && len(up) == 2
	})
}

// TestDeaf: a plugin that does not answer what it counts keeps nobody from the page.
func TestDeaf(t *testing.T) {
	t.Parallel()
	b := start(t, "deaf")
	if up := figures(exposed(t, b), "millrace_plugin_up"); up["t"] != 1 {
		t.Errorf("up: %v", up)
	}
}
