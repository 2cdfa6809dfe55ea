// Command bespoke is a broker composed in Go with one part replaced: a retention
// policy that keeps a fixed number of records in each partition.
//
//	go run ./examples/bespoke
//
// Topics choose it by name: retention.policy=last-records.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/sdk/broker"
)

// lastRecords keeps the newest records of each log, whole segments at a time.
type lastRecords struct {
	Keep int64 `setting:"retention.last.records" doc:"How many records the policy last-records keeps in each partition, at the least."`
}

// Validate is called when the settings have been read.
func (p *lastRecords) Validate() error {
	if p.Keep < 1 {
		return errors.New("retention.last.records: keep at least one record")
	}
	return nil
}

// Decide implements core.Retention. The broker sees to it that nothing above the
// high watermark goes, and that logs never begin earlier than they did.
func (p *lastRecords) Decide(_ context.Context, logs []core.LogView) ([]core.Decision, error) {
	var out []core.Decision
	for _, l := range logs {
		start := l.Start
		for _, s := range l.Segments {
			if s.End <= l.HighWatermark-p.Keep {
				start = s.End
			}
		}
		if start > l.Start {
			out = append(out, core.Decision{TopicPartition: l.TopicPartition, Start: start, Reason: "retention.last.records"})
		}
	}
	return out, nil
}

// factory gives the policy its name and its setting's default.
func factory() (core.Factory[core.Retention], error) {
	return core.Define("last-records", "keeps a number of records in each partition", lastRecords{Keep: 1000},
		func(_ context.Context, _ core.Env, cfg lastRecords) (core.Retention, error) { return &cfg, nil })
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bespoke:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. overrides are name=value.
func run(ctx context.Context, overrides []string) error {
	policy, err := factory()
	if err != nil {
		return err
	}
	b, err := broker.New(
		broker.WithSetting("retention.policy", "last-records"),
		broker.WithSources(config.Sources{Environ: os.Environ(), Overrides: overrides}),
		broker.WithRetention(policy),
	)
	if err != nil {
		return err
	}
	startErr := b.Start(ctx)
	if startErr == nil {
		<-ctx.Done()
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(startErr, b.Stop(end))
}
