// Command testplugin is the plugin of the system tests: all three seams, and the modes
// in which one can be bad. The environment says which:
//
//	TEST_MODE    the mode, or @FILE that has it, which is read with every call
//	TEST_CHILD   a file: where a mode notes what it has started, or how often it has
//	TEST_LATE    how long a call takes in the mode late
//	TEST_PREFIX  begins the names of what it offers; test otherwise
//	TEST_PLAN    the calls in which it is killed, see plan
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/plugin"
	"github.com/millrace/millrace/storage/compression"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	b := &behaviour{spec: os.Getenv("TEST_MODE"), child: os.Getenv("TEST_CHILD"), metrics: plugin.NewMetrics()}
	switch b.mode() {
	case "fork":
		if err := b.fork(); err != nil {
			return err
		}
	case "loop":
		// It starts once, and then crashes in a loop.
		if _, err := os.Stat(b.child); err == nil {
			os.Exit(9)
		}
		_ = os.WriteFile(b.child, nil, 0o600) // a start too many shows in the test
	case "version":
		fmt.Println("1|99|unix|/nowhere|grpc|") // the handshake of a release to come
		time.Sleep(time.Hour)
	}
	if late := os.Getenv("TEST_LATE"); late != "" {
		var err error
		if b.late, err = time.ParseDuration(late); err != nil {
			return fmt.Errorf("TEST_LATE: %w", err)
		}
	}
	compressors, err := compression.Default()
	if err != nil {
		return err
	}
	prefix := os.Getenv("TEST_PREFIX")
	if prefix == "" {
		prefix = "test"
	}
	name := prefix + "-partitioner"
	if b.mode() == "taken" {
		name = "murmur2"
	}
	b.count(prefix)
	opts := []plugin.Option{
		plugin.Program("testplugin", "1.0.0"),
		plugin.WithMetrics(b.metrics),
		plugin.Partitioner(name, "murmur2, in a process", config{}, func(context.Context, core.Env, config) (*placer, error) {
			return &placer{partitioners.NewMurmur2(partitioners.Options{}), b}, nil
		}),
		plugin.Partitioner(prefix+"-ruled", "murmur2, by a rule where there is a key", struct{}{}, func(context.Context, core.Env, struct{}) (*ruled, error) {
			return &ruled{placer{partitioners.NewMurmur2(partitioners.Options{}), b}}, nil
		}),
		plugin.Retention(prefix+"-retention", "keeps the last records of each log", struct{}{}, func(context.Context, core.Env, struct{}) (keeper, error) {
			return keeper{b}, nil
		}),
		plugin.Compressor(prefix+"-gzip", "gzip, in a process", record.Gzip, true, struct{}{}, func(context.Context, core.Env, struct{}) (core.Compressor, error) {
			return packer{compressors[record.Gzip], b}, nil
		}),
	}
	w, err := b.wire(os.Getenv("TEST_PLAN"))
	if err != nil {
		return err
	}
	if w != nil {
		return w.serve(opts...)
	}
	plugin.Serve(opts...)
	return nil
}

// behaviour is how it is bad.
type behaviour struct {
	spec, child string
	late        time.Duration
	metrics     *plugin.Metrics
	calls       *plugin.Metric
	leaked      chan []byte // holds on to memory
}

// count makes what it counts.
func (b *behaviour) count(prefix string) {
	const most = 1 << 10
	b.leaked = make(chan []byte, most)
	b.calls = b.metrics.Counter("test_calls_total", "Calls of a component.", map[string]string{"of": prefix})
	b.metrics.Gauge(prefix+"_started_seconds", "When it was started.", nil).Set(float64(time.Now().Unix()))
	if b.mode() == "metrics" {
		b.metrics.Gauge("up", "A name that the broker has itself.", nil)
		b.metrics.Gauge("No Name\n", "No name.", nil)
		b.metrics.Gauge("test_calls_total", "Another help and kind.", nil)
		b.metrics.Gauge("test_label", "A label of the broker.", map[string]string{"plugin": "somebody else"})
		b.metrics.Gauge("test_value", "A value\nthat is \"quoted\".", map[string]string{"of": "a\\b\n\"c\""})
	}
}

// mode is the one of now.
func (b *behaviour) mode() string {
	if len(b.spec) > 0 && b.spec[0] == '@' {
		text, err := os.ReadFile(b.spec[1:])
		if err != nil {
			return err.Error() // no mode at all
		}
		return string(text)
	}
	return b.spec
}

// fork starts a child that SIGHUP does not end, and writes its process id to the file.
func (b *behaviour) fork() error {
	child := exec.CommandContext(context.Background(), "nohup", "sleep", "600")
	if err := child.Start(); err != nil {
		return fmt.Errorf("start a child: %w", err)
	}
	// Who reads the file sees all of it or nothing.
	whole := filepath.Join(filepath.Dir(b.child), "."+filepath.Base(b.child))
	if err := os.WriteFile(whole, []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
		return err
	}
	return os.Rename(whole, b.child)
}

// leakedAtOnce is how much memory a call keeps in the mode leak.
const leakedAtOnce = 16 << 20

// act does what every call of a component does in a mode, and answers which one it is.
func (b *behaviour) act() string {
	b.calls.Add(1)
	mode := b.mode()
	switch mode {
	case "crash":
		os.Exit(7)
	case "never":
		time.Sleep(time.Hour)
	case "late":
		time.Sleep(b.late)
	case "panic":
		panic("Zounds!")
	case "garbage":
		fmt.Println("\x00\xffZounds!")
		fmt.Fprintln(os.Stderr, "Zounds, again")
	case "leak":
		m := make([]byte, leakedAtOnce)
		for i := range m {
			m[i] = byte(i) // it is there now
		}
		b.leaked <- m
	}
	return mode
}
