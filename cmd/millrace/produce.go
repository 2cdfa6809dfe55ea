package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/client"
)

// maxLine is the longest line that produce reads, in bytes.
const maxLine = 64 << 20

type produceFlags struct {
	connection
	format      lineFormat
	json        bool
	partition   int32
	partitioner string
	acks        string
	compression string
	timestamp   int64
	linger      time.Duration
	plugins     []string
	settings    string
}

func newProduce(io streams) *cobra.Command {
	p := &produceFlags{}
	cmd := &cobra.Command{
		Use: "produce TOPIC", Short: "Send each line of standard input as a record", Args: exactly("TOPIC"),
		Long: `Sends each line of standard input as a record.

A line is the value. With --parse-key it is KEY<separator>VALUE, with
--parse-headers HEADERS comes first: name:value with commas between. With --json
each line is an object as consume --json prints it.`,
		Example: `  echo hello | millrace produce greetings
  printf 'a\t1\nb\t2\n' | millrace produce pairs --parse-key
  millrace consume old --from-beginning --exit-at-end --json | millrace produce new --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), io, args[0]) },
	}
	p.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&p.format.key, "parse-key", false, "lines begin with a key")
	f.BoolVar(&p.format.headers, "parse-headers", false, "lines begin with headers")
	f.StringVar(&p.format.separator, "separator", "\t", "what stands between headers, key and value")
	f.StringVar(&p.format.null, "null-marker", "", "text that stands for a null key or value")
	f.BoolVar(&p.json, "json", false, "each line is a JSON object")
	f.Int32Var(&p.partition, "partition", -1, "partition to send to; -1 leaves it to the partitioner")
	f.StringVar(&p.partitioner, "partitioner", "", "who chooses partitions: "+strings.Join(partitionerNames(), ", ")+
		"; when not given the topic's own, or else murmur2 of the key, as Kafka's Java client does")
	f.StringArrayVar(&p.plugins, "plugin", nil, "NAME=PATH of a plugin with partitioners, to run beside this command; may be repeated")
	f.StringVar(&p.settings, "settings", "", "server.properties with plugins and their settings")
	f.StringVar(&p.acks, "acks", "all", "all, 1 or 0: how many replicas must have a record")
	f.StringVar(&p.compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	f.Int64Var(&p.timestamp, "timestamp", -1, "timestamp of every record in ms since 1970; -1 for now")
	f.DurationVar(&p.linger, "linger", 5*time.Millisecond, "how long to wait for more records of a batch")
	return cmd
}

// registry has the partitioners of the stock binary.
func registry() (*core.Registry[core.Partitioner], error) {
	all, err := partitioners.All()
	if err != nil {
		return nil, err
	}
	return core.NewRegistry("partitioner", all...)
}

func partitionerNames() []string {
	reg, err := registry()
	if err != nil { // said when one is needed
		return nil
	}
	return reg.Names()
}

// open makes the producer and sees that a broker answers.
func (p *produceFlags) open(ctx context.Context, topic string, from *placing) (*client.Producer, error) {
	var err error
	cfg := client.ProducerConfig{Brokers: p.brokers()}
	switch {
	case p.partitioner != "" && p.partition >= 0:
		return nil, usagef("--partition and --partitioner exclude each other")
	case p.partitioner != "":
		if cfg.Partitioner, err = from.registry.Build(ctx, p.partitioner, from.env); err != nil {
			return nil, usagef("--partitioner: %w", withHint(err))
		}
	case p.partition < 0:
		cfg.TopicPartitioner = client.FromRegistry(from.registry, from.env)
	}
	if cfg.Options, err = p.connection.options(); err != nil {
		return nil, err
	}
	opts, err := p.options(topic)
	if err != nil {
		return nil, err
	}
	cfg.Options = append(cfg.Options, opts...)
	producer, err := client.NewProducer(cfg)
	if err != nil {
		return nil, usagef("--bootstrap-server %s: %w", p.bootstrap, err)
	}
	if err := p.ping(ctx, producer.Client()); err != nil {
		return nil, errors.Join(err, producer.Close(ctx))
	}
	return producer, nil
}

func (p *produceFlags) options(topic string) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(p.linger), kgo.AllowAutoTopicCreation(),
		kgo.MaxBufferedBytes(64 << 20), kgo.UnknownTopicRetries(10),
	}
	switch p.acks {
	case "all", "-1":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usagef("--acks %s: want all, 1 or 0", p.acks)
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[p.compression]
	if !ok {
		return nil, usagef("--compression %s: want none, gzip, snappy, lz4 or zstd", p.compression)
	}
	return append(opts, kgo.ProducerBatchCompression(codec)), nil
}

func (p *produceFlags) run(ctx context.Context, io streams, topic string) error {
	if p.format.separator == "" {
		return usagef("--separator must not be empty")
	}
	from, err := p.openPlacing(ctx, io)
	if err != nil {
		return err
	}
	defer from.close() // after the producer
	producer, err := p.open(ctx, topic, from)
	if err != nil {
		return err
	}

	var sent atomic.Int64
	stop := progress(ctx, io, func() string { return fmt.Sprintf("%d records sent", sent.Load()) })
	defer stop()
	// An interrupt ends the reading; what has been read is still sent.
	send, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer func() {
		cancel(nil)
		_ = producer.Close(send) // what was to be sent is sent, or has failed
	}()
	watch := p.watch(send, cancel, producer.Client(), &sent)
	readErr := p.readUntil(ctx, send, io, func(r *kgo.Record) {
		producer.To(p.partition).SendAsync(send, r, func(_ *client.Message, err error) {
			if err == nil {
				sent.Add(1)
			} else {
				cancel(err) // the first failure explains the others
			}
		})
	})
	flushErr := producer.Flush(send)
	stop()
	failure := context.Cause(send)
	cancel(nil)
	watch.Wait()
	switch {
	case failure != nil:
	case readErr != nil:
		failure = readErr
	default:
		failure = flushErr
	}
	if failure != nil {
		return fmt.Errorf("produce to %s: %d records were sent, then: %w", topic, sent.Load(), withHint(failure))
	}
	return nil
}

// withHint says of a partitioner that is not known where it may be: a topic's is often a plugin's.
func withHint(err error) error {
	if errors.Is(err, core.ErrUnknownComponent) {
		return fmt.Errorf("%w; a plugin's is known with --settings or --plugin", err)
	}
	return err
}

// readUntil reads until the input ends, the command is interrupted or sending has
// failed. A read from a terminal cannot be called off: it is left behind then, and
// ends with the process.
func (p *produceFlags) readUntil(interrupted, failed context.Context, io streams, send func(*kgo.Record)) error {
	ctx, cancel := context.WithCancel(failed)
	defer cancel()
	defer context.AfterFunc(interrupted, cancel)()
	done := make(chan error, 1)
	go func() { done <- p.read(ctx, io, send) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

var errNoProgress = errors.New("no record has been acknowledged in the time of --timeout")

// watch cancels when records wait and none has been acknowledged for the timeout.
// The client's own limit would count from the timestamps of the records, which may
// be old.
func (p *produceFlags) watch(ctx context.Context, cancel context.CancelCauseFunc, client *kgo.Client, sent *atomic.Int64) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(max(p.timeout/20, time.Millisecond))
		defer tick.Stop()
		last, since := sent.Load(), time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if n := sent.Load(); n != last || client.BufferedProduceRecords() == 0 {
				last, since = n, time.Now()
			} else if time.Since(since) >= p.timeout {
				cancel(errNoProgress)
				return
			}
		}
	})
	return &wg
}

// read makes a record of each line.
func (p *produceFlags) read(ctx context.Context, io streams, send func(*kgo.Record)) error {
	in := bufio.NewScanner(io.in)
	in.Buffer(make([]byte, 64<<10), maxLine)
	in.Split(splitLines)
	for n := 1; in.Scan(); n++ {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told by whoever cancelled
		}
		var (
			r   *kgo.Record
			err error
		)
		if p.json {
			if strings.TrimSpace(in.Text()) == "" {
				continue
			}
			r, err = fromJSON(in.Bytes(), false)
		} else {
			r, err = p.format.parse(in.Text())
		}
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("line %d: %w", n, err)}
		}
		if p.timestamp >= 0 {
			r.Timestamp = time.UnixMilli(p.timestamp)
		}
		send(r)
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}

// splitLines splits at line feeds alone, so that a carriage return stays part of
// its record: bytes arrive as they were sent.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	for i, c := range data {
		if c == '\n' {
			return i + 1, data[:i], nil
		}
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
