// Command testplugin is the plugin of the system tests: all three seams, and the modes
// in which one can be bad. TEST_MODE says which.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/plugin"
	"github.com/millrace/millrace/storage/compression"
)

func main() {
	mode := os.Getenv("TEST_MODE")
	switch mode {
	case "fork":
		if err := fork(os.Getenv("TEST_CHILD")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "loop":
		// It starts once, and then crashes in a loop.
		marker := os.Getenv("TEST_CHILD")
		if _, err := os.Stat(marker); err == nil {
			os.Exit(9)
		}
		_ = os.WriteFile(marker, nil, 0o600) // a start too many shows in the test
	}
	compressors, err := compression.Default()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	name := "test-partitioner"
	if mode == "taken" {
		name = "murmur2"
	}
	plugin.Serve(
		plugin.Program("testplugin", "1.0.0"),
		plugin.Partitioner(name, "murmur2, in a process", config{}, func(context.Context, core.Env, config) (*placer, error) {
			return &placer{partitioners.NewMurmur2(partitioners.Options{}), mode}, nil
		}),
		plugin.Retention("test-retention", "keeps the last records of each log", struct{}{}, func(context.Context, core.Env, struct{}) (keeper, error) {
			return keeper{mode}, nil
		}),
		plugin.Compressor("test-gzip", "gzip, in a process", record.Gzip, true, struct{}{}, func(context.Context, core.Env, struct{}) (core.Compressor, error) {
			return packer{compressors[record.Gzip], mode}, nil
		}),
	)
}

// fork starts a child and writes its process id to a file.
func fork(file string) error {
	child := exec.CommandContext(context.Background(), "sleep", "600")
	if err := child.Start(); err != nil {
		return fmt.Errorf("start a child: %w", err)
	}
	return os.WriteFile(file, []byte(strconv.Itoa(child.Process.Pid)), 0o600)
}

// act does what every call does in a mode.
func act(mode string) {
	switch mode {
	case "crash":
		os.Exit(7)
	case "never":
		time.Sleep(time.Hour)
	case "garbage":
		fmt.Println("\x00\xffZounds!")
		fmt.Fprintln(os.Stderr, "Zounds, again")
	}
}

type config struct {
	Base int `setting:"test.base" doc:"Not below 0."`
}

// Validate is asked when the broker starts.
func (c config) Validate() error {
	if c.Base < 0 {
		return fmt.Errorf("test.base=%d: want at least 0", c.Base)
	}
	return nil
}

type placer struct {
	*partitioners.Murmur2Partitioner
	mode string
}

// Partition implements core.Partitioner.
func (p *placer) Partition(ctx context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	act(p.mode)
	if p.mode == "nonsense" {
		for i := range out {
			out[i] = int32(len(t.Partitions)) + 7
		}
		return nil
	}
	return p.Murmur2Partitioner.Partition(ctx, t, records, out)
}

// kept is how many records the policy keeps.
const kept = 500

type keeper struct{ mode string }

// Decide implements core.Retention.
func (k keeper) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	act(k.mode)
	var out []core.Decision
	for _, l := range logs {
		start := l.HighWatermark - kept
		if k.mode == "nonsense" {
			start = l.HighWatermark + kept
		}
		if start > l.Start {
			out = append(out, core.Decision{TopicPartition: l.TopicPartition, Start: start, Reason: "enough of them"})
		}
	}
	return out, ctx.Err()
}

type packer struct {
	core.Compressor
	mode string
}

// Compress implements core.Compressor.
func (p packer) Compress(dst, src []byte, params core.CompressionParams) ([]byte, error) {
	act(p.mode)
	if p.mode == "nonsense" {
		src = append([]byte("x"), src...)
	}
	return p.Compressor.Compress(dst, src, params)
}
