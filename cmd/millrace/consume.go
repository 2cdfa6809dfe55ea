package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeFlags struct {
	connection
	fromBeginning bool
	offset        string
	since         string
	sinceMs       int64 // what since means, once it is read
	partitions    []int32
	max           int64
	exitAtEnd     bool
	idle          time.Duration
	isolation     string
	group         string
	json          bool
	show          lineFormat
	timestamps    bool
	partition     bool
	offsets       bool
}

func newConsume(io streams) *cobra.Command {
	c := &consumeFlags{}
	cmd := &cobra.Command{
		Use: "consume TOPIC", Short: "Print records, one a line", Args: exactly("TOPIC"),
		Long: `Prints the values of a topic's records, one a line, from the end on or from where
--from-beginning, --offset or --since say. The --print flags put more in front,
with the separator between: timestamp, partition, offset, headers, key, value.

With --group it reads as a member of a consumer group: its share of the partitions,
from what the group has committed on (where that is nothing, from the end, or with
--from-beginning from the start), and commits what it has printed.`,
		Example: `  millrace consume orders --from-beginning --exit-at-end
  millrace consume orders --since 2h --print-timestamp --print-key
  millrace consume orders --partition 0 --offset -10 --max-messages 10 --json
  millrace consume orders --group billing --from-beginning`,
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), io, args[0]) },
	}
	c.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&c.fromBeginning, "from-beginning", false, "start at the oldest record")
	f.StringVar(&c.offset, "offset", "", "where to start: earliest, latest, an offset, or -N for the last N of each partition")
	f.StringVar(&c.since, "since", "", "start at the first record of this time: ms since 1970, RFC 3339, or a duration ago (2h)")
	f.Int32SliceVar(&c.partitions, "partition", nil, "partitions to read; all of them when not given")
	f.Int64VarP(&c.max, "max-messages", "n", -1, "stop after so many records")
	f.BoolVarP(&c.exitAtEnd, "exit-at-end", "e", false, "stop at what is the end when the command starts")
	f.DurationVar(&c.idle, "idle-timeout", 0, "stop when no record has come for so long; 0 waits for ever")
	f.StringVar(&c.isolation, "isolation-level", "read_uncommitted", "read_uncommitted or read_committed")
	f.StringVar(&c.group, "group", "", "consumer group to be a member of")
	f.BoolVar(&c.json, "json", false, "print a JSON object for each record")
	f.BoolVar(&c.show.key, "print-key", false, "print keys")
	f.BoolVar(&c.show.headers, "print-headers", false, "print headers")
	f.BoolVar(&c.timestamps, "print-timestamp", false, "print timestamps, in ms")
	f.BoolVar(&c.partition, "print-partition", false, "print partitions")
	f.BoolVar(&c.offsets, "print-offset", false, "print offsets")
	f.StringVar(&c.show.separator, "separator", "\t", "what stands between the fields")
	f.StringVar(&c.show.null, "null-marker", "null", "text printed for a null key or value")
	return cmd
}

// errStop ends consuming without a failure.
var errStop = errors.New("stop")

func (c *consumeFlags) run(ctx context.Context, io streams, topic string) error {
	// Control records are not printed, but they show that the end has been reached. An
	// offset that does not exist is an error, not a reason to read from elsewhere.
	opts := []kgo.Opt{
		kgo.FetchMaxWait(500 * time.Millisecond), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	}
	switch c.isolation {
	case "read_uncommitted":
	case "read_committed":
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	default:
		return usagef("--isolation-level %s: want read_uncommitted or read_committed", c.isolation)
	}
	switch {
	case c.max < -1:
		return usagef("--max-messages %d: want 0 or more, or -1 for no limit", c.max)
	case c.idle < 0:
		return usagef("--idle-timeout %s: want 0s or more", c.idle)
	case len(c.partitions) > 0 && slices.Min(c.partitions) < 0:
		return usagef("--partition %d: want 0 or more", slices.Min(c.partitions))
	}
	from, err := c.start()
	if err != nil {
		return err
	}
	if c.group != "" {
		return c.runGroup(ctx, io, topic, opts)
	}
	client, err := c.open(ctx, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := c.assign(ctx, client, topic, from)
	if err != nil {
		return err
	}
	if c.max == 0 || c.exitAtEnd && len(ends) == 0 {
		return nil
	}
	out := bufio.NewWriterSize(io.out, 64<<10)
	var count atomic.Int64
	stop := progress(ctx, io, io.out, func() string { return fmt.Sprintf("%d records read", count.Load()) })
	defer stop()
	err = c.poll(ctx, client, out, ends, &count)
	if flushErr := out.Flush(); err == nil || errors.Is(err, errStop) {
		err = flushErr
	}
	if errors.Is(err, context.Canceled) {
		return nil // interrupted: what had come has been printed
	}
	return err
}

// start is the place that the flags name.
func (c *consumeFlags) start() (kgo.Offset, error) {
	o := kgo.NewOffset()
	given := 0
	if c.fromBeginning {
		given++
		o = o.AtStart()
	}
	if c.since != "" {
		given++
		var err error
		if c.sinceMs, err = parseSince(c.since, time.Now()); err != nil {
			return o, err
		}
		o = o.AfterMilli(c.sinceMs)
	}
	switch c.offset {
	case "":
		if given == 0 {
			o = o.AtEnd()
		}
	case "earliest", "beginning":
		given++
		o = o.AtStart()
	case "latest", "end":
		given++
		o = o.AtEnd()
	default:
		given++
		n, err := strconv.ParseInt(c.offset, 10, 64)
		if err != nil {
			return o, usagef("--offset %s: want earliest, latest, an offset or -N", c.offset)
		}
		if n < 0 {
			o = o.AtEnd().Relative(n)
		} else {
			o = o.At(n)
		}
	}
	if given > 1 {
		return o, usagef("give one of --from-beginning, --offset and --since")
	}
	return o, nil
}

// parseSince reads ms, RFC 3339 or a duration before now. Times before 1970 are 1970:
// negative ones mean something else to a broker.
func parseSince(s string, now time.Time) (int64, error) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 {
		return ms, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return max(0, t.UnixMilli()), nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return max(0, now.Add(-d.Abs()).UnixMilli()), nil
	}
	return 0, usagef("--since %s: want ms since 1970, 2006-01-02T15:04:05Z or a duration such as 90m", s)
}

// assign gives the partitions to the client, and with --exit-at-end returns how far
// each is to be read; partitions with nothing to read are left out.
func (c *consumeFlags) assign(ctx context.Context, client *kgo.Client, topic string, from kgo.Offset) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	adm := kadm.NewClient(client)
	details, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("look up topic %s: %w", topic, err)
	}
	d := details[topic]
	if d.Err != nil {
		return nil, brokerError("topic "+topic, d.Err, "")
	}
	if len(c.partitions) == 0 {
		c.partitions = d.Partitions.Numbers()
	}
	places := map[int32]kgo.Offset{}
	for _, p := range c.partitions {
		if _, ok := d.Partitions[p]; !ok {
			return nil, usagef("--partition %d: topic %s has partitions 0 to %d", p, topic, len(d.Partitions)-1)
		}
		places[p] = from
	}
	ends := map[int32]int64{}
	if c.exitAtEnd {
		if err := c.ends(ctx, adm, topic, ends); err != nil {
			return nil, err
		}
		for p := range places {
			if _, ok := ends[p]; !ok {
				delete(places, p)
			}
		}
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: places})
	return ends, nil
}

// ends finds the offset before which each partition that has records is to be read.
func (c *consumeFlags) ends(ctx context.Context, adm *kadm.Client, topic string, ends map[int32]int64) error {
	list := adm.ListEndOffsets
	if c.isolation == "read_committed" {
		list = adm.ListCommittedOffsets
	}
	end, err := list(ctx, topic)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", topic, err)
	}
	start, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("find the start of %s: %w", topic, err)
	}
	from, err := c.firstOffsets(ctx, adm, topic, start, end)
	if err != nil {
		return err
	}
	for _, p := range c.partitions {
		e, ok := end.Lookup(topic, p)
		if !ok {
			e.Err = errLeftOut
		}
		if e.Err != nil {
			return fmt.Errorf("find the end of %s-%d: %w", topic, p, e.Err)
		}
		if from[p] < e.Offset {
			ends[p] = e.Offset
		}
	}
	return nil
}

// firstOffsets is where reading will start in each partition.
func (c *consumeFlags) firstOffsets(ctx context.Context, adm *kadm.Client, topic string, start, end kadm.ListedOffsets) (map[int32]int64, error) {
	var since kadm.ListedOffsets
	if c.since != "" {
		var err error
		if since, err = adm.ListOffsetsAfterMilli(ctx, c.sinceMs, topic); err != nil {
			return nil, fmt.Errorf("find the time in %s: %w", topic, err)
		}
	}
	from := map[int32]int64{}
	for _, p := range c.partitions {
		s, _ := start.Lookup(topic, p)
		e, _ := end.Lookup(topic, p)
		switch n, err := strconv.ParseInt(c.offset, 10, 64); {
		case since != nil:
			o, ok := since.Lookup(topic, p)
			switch {
			case !ok:
				return nil, fmt.Errorf("find the time in %s-%d: %w", topic, p, errLeftOut)
			case o.Err != nil:
				return nil, fmt.Errorf("find the time in %s-%d: %w", topic, p, o.Err)
			case o.Offset >= 0:
				from[p] = o.Offset
			default:
				from[p] = e.Offset
			}
		case err == nil && n < 0:
			from[p] = max(s.Offset, e.Offset+n)
		case err == nil:
			from[p] = max(s.Offset, n)
		case c.fromBeginning || c.offset == "earliest" || c.offset == "beginning":
			from[p] = s.Offset
		default:
			from[p] = e.Offset
		}
	}
	return from, nil
}

func (c *consumeFlags) poll(ctx context.Context, client *kgo.Client, out *bufio.Writer, ends map[int32]int64, count *atomic.Int64) error {
	for {
		pollCtx, cancel := ctx, context.CancelFunc(func() {})
		if c.idle > 0 {
			pollCtx, cancel = context.WithTimeout(ctx, c.idle)
		}
		fetches := client.PollFetches(pollCtx)
		cancel()
		var failed error
		fetches.EachError(func(topic string, p int32, err error) {
			switch {
			case ctx.Err() != nil:
				failed = ctx.Err()
			case errors.Is(err, context.DeadlineExceeded) && c.idle > 0:
				failed = errStop
			default:
				failed = fmt.Errorf("consume %s-%d: %w", topic, p, err)
			}
		})
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			end, bounded := ends[r.Partition]
			if r.Attrs.IsControl() || c.exitAtEnd && (!bounded || r.Offset >= end) {
				continue
			}
			if err := c.print(out, r); err != nil {
				return err
			}
			if count.Add(1) == c.max {
				return errStop
			}
		}
		if c.exitAtEnd && c.finished(fetches, ends) {
			return errStop
		}
		if failed != nil {
			return failed
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// finished forgets the partitions that were read to their end and says whether
// none is left.
func (c *consumeFlags) finished(fetches kgo.Fetches, ends map[int32]int64) bool {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		end, ok := ends[p.Partition]
		if !ok || len(p.Records) == 0 {
			return
		}
		if p.Records[len(p.Records)-1].Offset >= end-1 {
			delete(ends, p.Partition)
		}
	})
	return len(ends) == 0
}

func (c *consumeFlags) print(out *bufio.Writer, r *kgo.Record) error {
	if c.json {
		line, err := toJSON(r)
		if err != nil {
			return err
		}
		if _, err = out.Write(line); err != nil {
			return err
		}
		return out.WriteByte('\n')
	}
	sep := c.show.separator
	if c.timestamps {
		fmt.Fprintf(out, "%d%s", r.Timestamp.UnixMilli(), sep)
	}
	if c.partition {
		fmt.Fprintf(out, "%d%s", r.Partition, sep)
	}
	if c.offsets {
		fmt.Fprintf(out, "%d%s", r.Offset, sep)
	}
	if c.show.headers {
		for i, h := range r.Headers {
			if i > 0 {
				_ = out.WriteByte(',')
			}
			fmt.Fprintf(out, "%s:%s", h.Key, c.orNull(h.Value))
		}
		_, _ = out.WriteString(sep)
	}
	if c.show.key {
		_, _ = out.Write(c.orNull(r.Key))
		_, _ = out.WriteString(sep)
	}
	_, _ = out.Write(c.orNull(r.Value))
	// A bufio.Writer keeps the first error: this one stands for all of the line.
	return out.WriteByte('\n')
}

func (c *consumeFlags) orNull(b []byte) []byte {
	if b == nil {
		return []byte(c.show.null)
	}
	return b
}
