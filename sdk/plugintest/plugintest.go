// Package plugintest tests a plugin as a broker would use it: the author's program, in
// a process of its own, behind the broker's own host. One test is all that a plugin needs:
//
//	func TestPlugin(t *testing.T) {
//		plugintest.Run(t, plugintest.Options{Settings: map[string]string{"mine.days": "7"}})
//	}
//
//	func BenchmarkPlugin(b *testing.B) { plugintest.Benchmark(b, plugintest.Options{}) }
//
// Run builds the program of the test's folder and looks at everything it offers: the
// conformance suite of each seam, huge batches, calls side by side, the death of the
// process in the middle of calls, a process that hangs, and the end of the broker.
package plugintest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/plugins/host"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

// Options say what is tested.
type Options struct {
	// Package is the folder of the plugin's main package; empty is the test's own.
	Package string
	// Program is the path of a program that is built already; it wins over Package.
	Program string
	// Settings are the components' own, which must be good, and those of the plugin:
	// plugin.NAME.call.timeout.ms and so on, where NAME is Name. Without them the timeouts
	// are long, not a broker's: a loaded machine fails no good plugin.
	Settings map[string]string
	// Retention says what more is promised of the retention policies.
	Retention retentiontest.Options
}

// Name is what the program is called in plugin.NAME.* while it is tested.
const Name = "tested"

// patience is how long a start, a call, a look at the health or an end may take where the
// options do not say otherwise: a loaded machine must not fail the test of a good plugin.
// How fast a plugin is Benchmark tells.
const patience = 2 * time.Minute

// Run tests the program in subtests.
func Run(t *testing.T, o Options) {
	o.Program = program(t, o)
	t.Run("Offers", func(t *testing.T) { checkOffers(t, o) })
	h := open(t, o)
	t.Run("Partitioners", func(t *testing.T) { checkPartitioners(t, h) })
	t.Run("Retention", func(t *testing.T) { checkRetention(t, h, o) })
	t.Run("Compression", func(t *testing.T) { checkCompression(t, h) })
	t.Run("Trusted", func(t *testing.T) { checkCompression(t, open(t, o, "compression.trust=true")) })
	t.Run("Killed", func(t *testing.T) { checkKilled(t, o) })
	t.Run("Hangs", func(t *testing.T) { checkHangs(t, o) })
	t.Run("Ends", func(t *testing.T) { checkEnds(t, o) })
}

// program is the path of the program, built if need be.
func program(t testing.TB, o Options) string {
	t.Helper()
	if o.Program != "" {
		return o.Program
	}
	out := filepath.Join(t.TempDir(), Name)
	pkg := o.Package
	if pkg == "" {
		pkg = "."
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, ".")
	cmd.Dir = pkg
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin in %s: %v\n%s", pkg, err, text)
	}
	return out
}

// testLog keeps what the plugin prints, and shows it when the test has failed.
type testLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// open starts the program behind a host, with the settings of the options and those
// given here, NAME=VALUE.
func open(t testing.TB, o Options, more ...string) *host.Host {
	t.Helper()
	settings := map[string]string{
		"plugin." + Name + ".path":               o.Program,
		"plugin." + Name + ".restart.backoff.ms": "1",
	}
	for _, limit := range []string{"start.timeout.ms", "call.timeout.ms", "health.interval.ms", "stop.timeout.ms"} {
		settings["plugin."+Name+"."+limit] = strconv.FormatInt(patience.Milliseconds(), 10)
	}
	for k, v := range o.Settings {
		settings[k] = v
	}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		settings["plugin."+Name+"."+k] = v
	}
	log := &testLog{}
	h, err := broker.OpenPlugins(t.Context(), settings, core.SystemClock{}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		h.Close()
		if t.Failed() {
			t.Logf("the plugin's log:\n%s", log)
		}
	})
	env := core.Env{Settings: func(name string) (string, bool) { v, ok := settings[name]; return v, ok }}
	if err := h.Configure(t.Context(), env); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return h
}

// checkOffers looks at what the program says of itself.
func checkOffers(t *testing.T, o Options) {
	spec, err := host.DefaultSpec(Name, o.Program)
	if err != nil {
		t.Fatal(err)
	}
	spec.StartTimeout, spec.StopTimeout = patience, patience
	d, err := host.Inspect(t.Context(), spec, func(name string) (string, bool) { v, ok := o.Settings[name]; return v, ok },
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if d.Program == "" || d.Version == "" {
		t.Error("it does not say its name and its version: give Serve a Program")
	}
	for _, c := range d.Components {
		what := c.Seam + " " + c.Name
		if c.Doc == "" {
			t.Errorf("%s: it has no doc, which is what operators see of it", what)
		}
		for _, p := range c.Problems {
			t.Errorf("%s refuses its settings: %s", what, p)
		}
		for _, s := range c.Settings {
			if s.Doc == "" {
				t.Errorf("%s: the setting %s has no doc", what, s.Name)
			}
		}
	}
	// A setting with a value of a wrong type has to be refused, not ignored.
	for _, c := range d.Components {
		for _, s := range c.Settings {
			if s.Type != "int" && s.Type != "long" && s.Type != "duration" && s.Type != "boolean" {
				continue
			}
			bad, err := host.Inspect(t.Context(), spec, func(name string) (string, bool) {
				if name == s.Name {
					return "certainly not", true
				}
				v, ok := o.Settings[name]
				return v, ok
			}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatalf("%s=certainly not: the program failed instead of refusing the setting: %v", s.Name, err)
			}
			refused := false
			for _, b := range bad.Components {
				refused = refused || b.Name == c.Name && len(b.Problems) > 0
			}
			if !refused {
				t.Errorf("%s %s takes %s=certainly not", c.Seam, c.Name, s.Name)
			}
		}
	}
}

// checkEnds ends the broker's side and looks whether the process is gone.
func checkEnds(t *testing.T, o Options) {
	h := open(t, o)
	pid := h.List()[0].PID
	h.Close()
	await(t, fmt.Sprintf("process %d to end with its broker", pid), func() bool { return !alive(pid) })
}

// alive is false for a process that is gone or only waits to be buried.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		if _, err := os.Stat("/proc/self/stat"); err != nil {
			return signalled(pid)
		}
		return false
	}
	return err == nil && !strings.Contains(string(status), ") Z ")
}

// build makes the part of a factory.
func build[T any](t testing.TB, f core.Factory[T]) T {
	t.Helper()
	made, err := f.New(context.WithoutCancel(t.Context()), core.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}
