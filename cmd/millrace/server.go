package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/sdk/broker"
)

// exitForced is the exit code after a second signal.
const exitForced = 130

func newServer(io streams) *cobra.Command {
	var (
		overrides []string
		grace     time.Duration
	)
	cmd := &cobra.Command{
		Use: "server [FILE]", Short: "Run a broker",
		Long: `Runs a broker until it is told to end (SIGTERM or Ctrl-C): it then takes no new
work, finishes what it has, and closes its logs. A second signal ends it at once;
it recovers at the next start.

FILE is a server.properties as Kafka's. Settings come from, the last one wins: the
defaults, FILE, environment variables (MILLRACE_LOG_DIRS for log.dirs), --override.`,
		Example: `  millrace server
  millrace server /etc/millrace/server.properties --override log.retention.hours=24
  MILLRACE_LISTENERS=PLAINTEXT://:9092 MILLRACE_ADVERTISED_LISTENERS=PLAINTEXT://kafka.example:9092 millrace server`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src := config.Sources{Environ: os.Environ(), Overrides: overrides}
			if len(args) == 1 {
				src.File = args[0]
				if _, err := os.Stat(src.File); err != nil {
					return usagef("the settings cannot be read: %w", err)
				}
			}
			return serve(cmd.Context(), io, src, grace)
		},
	}
	cmd.Flags().StringArrayVar(&overrides, "override", nil, "name=value of a setting; may be repeated")
	cmd.Flags().DurationVar(&grace, "shutdown-timeout", time.Minute, "how long requests in service may take at the end")
	return cmd
}

// serve runs a broker until ctx ends, which the first signal does.
func serve(ctx context.Context, io streams, src config.Sources, grace time.Duration) error {
	b, err := broker.New(broker.WithSources(src), broker.WithLogOutput(io.err))
	if err != nil {
		return settingsError(err)
	}
	// A log that nobody reads any more is no reason to end. To ignore the signal would be
	// handed down to plugins.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)
	startErr := b.Start(ctx)
	var failure error
	switch {
	case startErr != nil && ctx.Err() != nil:
		// Told to end while starting.
	case startErr != nil:
		failure = settingsError(startErr)
	default:
		select {
		case <-ctx.Done():
		case <-b.Done():
			failure = b.Err()
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.Stop(stop) }()
	select {
	case err := <-done:
		return errors.Join(failure, err)
	case <-io.again.Done():
		return &exitError{exitForced, errors.New("ended by a second signal; the logs will be recovered at the next start")}
	}
}

// settingsError gives errors of whoever configured the broker their exit code.
func settingsError(err error) error {
	if errors.Is(err, core.ErrInvalidConfig) || errors.Is(err, core.ErrUnknownComponent) {
		return &exitError{exitUsage, fmt.Errorf("the settings cannot be used:\n%w", err)}
	}
	return err
}
