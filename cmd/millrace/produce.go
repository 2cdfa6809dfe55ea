package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	stdio "io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/client"
)

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
	maxRequest  int32
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
each line is an object as consume --json prints it; its topic, partition and offset
are left aside.

An interrupt (Ctrl-C, SIGTERM) ends the reading; what has been read is still sent, and
a second interrupt gives that up. The exit code is 0 when each record that was read has
been acknowledged; otherwise the message says how many have not.`,
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
	f.Int32Var(&p.maxRequest, "max-request-size", 1<<20, "largest batch, and so the largest record, in bytes; see the topic's max.message.bytes")
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

// check refuses flags that do not fit together, or have no meaning.
func (p *produceFlags) check() error {
	switch {
	case p.format.separator == "":
		return usagef("--separator must not be empty")
	case p.json && (p.format.key || p.format.headers || p.format.null != ""):
		return usagef("--json lines have key, headers and nulls of their own: leave --parse-key, --parse-headers and --null-marker away")
	case p.partitioner != "" && p.partition >= 0:
		return usagef("--partition and --partitioner exclude each other")
	case p.partition < -1:
		return usagef("--partition %d: want 0 or more, or -1 to leave it to the partitioner", p.partition)
	case p.timestamp < -1:
		return usagef("--timestamp %d: want ms since 1970, or -1 for now", p.timestamp)
	case p.linger < 0 || p.linger > time.Minute:
		return usagef("--linger %s: want 0s to 1m", p.linger)
	case p.maxRequest < 1<<10 || p.maxRequest > maxLine:
		return usagef("--max-request-size %d: want %d to %d", p.maxRequest, 1<<10, maxLine)
	}
	return nil
}

// open makes the producer and sees that a broker answers.
func (p *produceFlags) open(ctx context.Context, from *placing) (*client.Producer, error) {
	var err error
	cfg := client.ProducerConfig{Brokers: p.brokers()}
	switch {
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
	opts, err := p.options()
	if err != nil {
		return nil, err
	}
	cfg.Options = append(cfg.Options, opts...)
	producer, err := client.NewProducer(cfg)
	if err != nil {
		return nil, usagef("--bootstrap-server %s: %w", p.bootstrap, err)
	}
	if err := p.ping(ctx, producer.Client()); err != nil {
		return nil, errors.Join(err, producer.Close(context.WithoutCancel(ctx)))
	}
	return producer, nil
}

func (p *produceFlags) options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.ProducerLinger(p.linger), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(p.maxRequest),
		kgo.MaxBufferedBytes(2 * maxLine), kgo.UnknownTopicRetries(10),
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
	if err := p.check(); err != nil {
		return err
	}
	from, err := p.openPlacing(ctx, io)
	if err != nil {
		return err
	}
	defer from.close() // after the producer
	producer, err := p.open(ctx, from)
	if err != nil {
		return err
	}

	var t tally
	stop := progress(ctx, io, io.in, func() string { return fmt.Sprintf("%d records sent", t.sent.Load()) })
	defer stop()
	// An interrupt, or a failure, ends the reading; what has been read is still sent.
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	send, giveUp := context.WithCancel(io.again)
	defer giveUp()
	watch := p.watch(send, producer.Client(), &t, func() {
		t.fail(errNoProgress)
		stopReading()
		giveUp()
	})
	left, readErr := p.read(reading, io, &t, func(line int, r *kgo.Record) {
		r.Topic = topic
		producer.To(p.partition).SendAsync(send, r, func(_ *client.Message, err error) {
			if err == nil {
				t.sent.Add(1)
				return
			}
			t.lost.Add(1)
			t.fail(fmt.Errorf("line %d: %w", line, err))
			stopReading()
		})
	})
	flushErr := producer.Flush(send)
	stop()
	giveUp()
	watch.Wait()
	_ = producer.Close(send) // what had no outcome yet has failed now
	failure := cmp.Or(t.failure(), readErr, flushErr)
	if io.again.Err() != nil {
		failure = errAgain
	}
	return t.report(topic, failure, left)
}

// tally is what became of the records. Safe for concurrent use.
type tally struct {
	sent, lost atomic.Int64
	mu         sync.Mutex
	first      error
}

// fail notes a failure; the first one explains the others.
func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = err
	}
}

func (t *tally) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// report is the error of the command; nil where there was no failure.
func (t *tally) report(topic string, failure error, left unsent) error {
	if failure == nil {
		return nil
	}
	lost := ""
	if n := t.lost.Load(); n > 0 {
		lost = fmt.Sprintf(" and %d were not acknowledged", n)
	}
	return fmt.Errorf("produce to %s: %d records were sent%s, then: %w%s", topic, t.sent.Load(), lost, withHint(failure), left)
}

// withHint says what can be done about an error: a topic's partitioner that is not known is
// often a plugin's.
func withHint(err error) error {
	switch {
	case errors.Is(err, core.ErrUnknownComponent):
		return fmt.Errorf("%w; a plugin's is known with --settings or --plugin", err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("%w; --max-request-size and the topic's max.message.bytes say how large a record may be", err)
	}
	return err
}

var (
	errInterrupted = errors.New("interrupted within a line")
	errAgain       = errors.New("interrupted a second time")
)

var errNoProgress = errors.New("no record has been acknowledged in the time of --timeout")

// watch calls stuck when records wait and none has been acknowledged for the timeout.
// The client's own limit would count from the timestamps of the records, which may
// be old.
func (p *produceFlags) watch(ctx context.Context, client *kgo.Client, t *tally, stuck func()) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(max(p.timeout/20, time.Millisecond))
		defer tick.Stop()
		last, since := t.sent.Load(), time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if n := t.sent.Load(); n != last || client.BufferedProduceRecords() == 0 {
				last, since = n, time.Now()
			} else if time.Since(since) >= p.timeout {
				stuck()
				return
			}
		}
	})
	return &wg
}

// unsent is what was read of the input and has not become a record.
type unsent struct {
	bytes int
	lines int // that came before it
}

// String is the end of a message.
func (u unsent) String() string {
	if u.bytes == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d bytes that were read behind line %d were not sent)", u.bytes, u.lines)
}

// read makes a record of each line, until the input ends, ctx ends or sending has failed.
// Lines that were read when ctx ends are made records still, unless it is for a failure.
func (p *produceFlags) read(ctx context.Context, io streams, t *tally, send func(line int, r *kgo.Record)) (left unsent, err error) {
	in, err := newInput(ctx, io.in)
	if err != nil {
		return left, err
	}
	defer in.close()
	for err == nil && t.failure() == nil && io.again.Err() == nil {
		var line []byte
		if line, err = in.next(ctx); err == nil {
			err = p.line(in.lines, line, send)
		}
	}
	left = unsent{len(in.buf), in.lines}
	switch {
	case errors.Is(err, stdio.EOF):
		return left, nil
	case errors.Is(err, context.Canceled) && left.bytes == 0:
		return left, nil
	case errors.Is(err, context.Canceled):
		return left, errInterrupted
	case errors.Is(err, errLineTooLong):
		return left, &exitError{exitUsage, fmt.Errorf("line %d: %w", in.lines+1, err)}
	}
	return left, err
}

// line makes a record of the n-th line, and sends it.
func (p *produceFlags) line(n int, line []byte, send func(line int, r *kgo.Record)) error {
	var (
		r   *kgo.Record
		err error
	)
	if p.json {
		if len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
		r, err = fromJSON(line)
	} else {
		r, err = p.format.parse(string(line))
	}
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("line %d: %w", n, err)}
	}
	if p.timestamp >= 0 {
		r.Timestamp = time.UnixMilli(p.timestamp)
	}
	send(n, r)
	return nil
}
