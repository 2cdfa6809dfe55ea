// Command broker is a broker composed of parts of three modules: Millrace, prefix (a
// partitioner) and newest (a retention policy). Each of them is a Go module of its own,
// as if it came from somebody else:
//
//	cd examples/modules/broker && go run . listeners=PLAINTEXT://127.0.0.1:9092
//
// In your own modules the replace directives of go.mod are not needed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/newest"
	"example.com/prefix"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/sdk/broker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. overrides are name=value.
func run(ctx context.Context, overrides []string) error {
	placer, err := prefix.Factory()
	if err != nil {
		return err
	}
	policy, err := newest.Factory()
	if err != nil {
		return err
	}
	b, err := broker.New(
		broker.WithSetting("retention.policy", newest.Name),
		broker.WithSources(config.Sources{Environ: os.Environ(), Overrides: overrides}),
		broker.WithPartitioner(placer),
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
