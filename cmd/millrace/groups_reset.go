package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	stdio "io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// resetFlags are those of reset-offsets, with the names of Kafka's tool.
type resetFlags struct {
	topics    []string
	allTopics bool
	allGroups bool

	current, earliest, latest bool
	offset, shift             int64
	datetime, duration        string
	file                      string

	execute, dryRun bool
	export, asJSON  bool
}

func groupsReset(io streams, conn *connection) *cobra.Command {
	r := &resetFlags{}
	cmd := &cobra.Command{
		Use: "reset-offsets [GROUP...]", Short: "Set where groups without members go on reading; shows the plan, and does it with --execute", Args: anyNumber("GROUP"),
		Long: `Sets the committed offsets of groups that have no members, so that their consumers
go on there. Without --execute it only shows what it would do.

Offsets beyond what a partition has become its first or last one. A group that does
not exist is made. --export prints the plan as CSV, which --from-file reads:
TOPIC,PARTITION,OFFSET, with GROUP in front when there are several groups.`,
		Example: `  millrace groups reset-offsets billing --topic orders --to-earliest
  millrace groups reset-offsets billing --topic orders:0,3 --shift-by -100 --execute
  millrace groups reset-offsets billing --all-topics --by-duration PT2H --export > plan.csv
  millrace groups reset-offsets billing --from-file plan.csv --execute`,
		RunE: func(cmd *cobra.Command, args []string) error {
			strategy, err := r.strategy(cmd, time.Now())
			if err != nil {
				return err
			}
			scope, err := topicFlag(r.topics)
			if err != nil {
				return err
			}
			if err := r.check(args, scope); err != nil {
				return err
			}
			return withClient(cmd.Context(), conn, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				return r.run(ctx, io, cl, adm, args, scope, strategy)
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&r.topics, "topic", nil, "TOPIC, or TOPIC:0,1 for some partitions; may be repeated")
	f.BoolVar(&r.allTopics, "all-topics", false, "all topics for which the group has committed")
	f.BoolVar(&r.allGroups, "all-groups", false, "all groups")
	f.BoolVar(&r.current, "to-current", false, "to what is committed; the end where nothing is")
	f.BoolVar(&r.earliest, "to-earliest", false, "to the first record there is")
	f.BoolVar(&r.latest, "to-latest", false, "to the end")
	f.Int64Var(&r.offset, "to-offset", 0, "to this offset")
	f.Int64Var(&r.shift, "shift-by", 0, "so many records on, or back when negative")
	f.StringVar(&r.datetime, "to-datetime", "", "to the first record since: RFC 3339 (without a zone: UTC) or ms since 1970")
	f.StringVar(&r.duration, "by-duration", "", "to the first record of the last so long: ISO 8601 (P1DT2H) or 26h")
	f.StringVar(&r.file, "from-file", "", "to the offsets of a CSV file; - is standard input")
	f.BoolVar(&r.execute, "execute", false, "do it")
	f.BoolVar(&r.dryRun, "dry-run", false, "only show what would be done; the default")
	f.BoolVar(&r.export, "export", false, "print CSV for --from-file")
	f.BoolVar(&r.asJSON, "json", false, "print JSON")
	return cmd
}

// check refuses flags that do not fit together.
func (r *resetFlags) check(groups []string, scope kadm.TopicsSet) error {
	switch {
	case r.execute && r.dryRun:
		return usagef("--execute and --dry-run exclude each other")
	case r.export && r.asJSON:
		return usagef("--export and --json exclude each other")
	case r.allGroups == (len(groups) > 0):
		return usagef("name groups, or give --all-groups")
	case r.file != "" && (r.allTopics || len(scope) > 0):
		return usagef("--from-file says which topics: leave --topic and --all-topics away")
	case r.file == "" && r.allTopics == (len(scope) > 0):
		return usagef("give --topic or --all-topics")
	}
	return nil
}

// strategy is the one that the flags name.
func (r *resetFlags) strategy(cmd *cobra.Command, now time.Time) (strategy, error) {
	var given []string
	names := []string{"to-current", "to-earliest", "to-latest", "to-offset", "shift-by", "to-datetime", "by-duration", "from-file"}
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		return strategy{}, usagef("give one of --%s", strings.Join(names, ", --"))
	}
	s := strategy{kind: given[0], offset: r.offset, shift: r.shift}
	switch s.kind {
	case "to-offset":
		if r.offset < 0 {
			return s, usagef("--to-offset %d: want 0 or more", r.offset)
		}
	case "to-datetime":
		ms, err := parseDatetime(r.datetime)
		if err != nil {
			return s, err
		}
		s.ms = ms
	case "by-duration":
		d, err := parseDuration(r.duration)
		if err != nil {
			return s, err
		}
		s.ms = max(0, now.Add(-d).UnixMilli()) // negative times mean something else to a broker
	}
	return s, nil
}

// planned is the new offset of one partition.
type planned struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Old       int64  `json:"old_offset"` // -1: none
	New       int64  `json:"new_offset"`
}

func (r *resetFlags) run(ctx context.Context, io streams, cl *kgo.Client, adm *kadm.Client, names []string, scope kadm.TopicsSet, s strategy) error {
	listed, err := listGroups(ctx, cl, nil, nil)
	if err != nil {
		return err
	}
	states := map[string]listedGroup{}
	for _, g := range listed {
		states[g.Group] = g
	}
	if r.allGroups {
		if names = slices.Sorted(maps.Keys(states)); len(names) == 0 {
			return errNoGroups
		}
	}
	if err := awaitCoordinators(ctx, adm, names); err != nil {
		return err
	}
	var from map[string]kadm.Offsets
	if r.file != "" {
		if from, err = readPlan(io, r.file, names); err != nil {
			return err
		}
	}
	var (
		plan []planned
		errs []error
	)
	for _, name := range names {
		if err := resettable(ctx, adm, name, states); err != nil {
			errs = append(errs, err)
			continue
		}
		p, err := r.plan(ctx, io, adm, name, scope, s, from[name])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if r.execute {
			p, err = commitPlan(ctx, adm, name, p)
			errs = append(errs, err)
		}
		plan = append(plan, p...)
	}
	failed := errors.Join(errs...)
	if len(plan) == 0 && failed != nil {
		return failed
	}
	if err := r.print(io, plan, len(names) > 1); err != nil {
		return err
	}
	return failed
}

var errNoGroups = errors.New("the cluster has no groups: name one, which is made")

// resettable refuses a group that has members, whose consumers would not notice.
func resettable(ctx context.Context, adm *kadm.Client, name string, states map[string]listedGroup) error {
	g, exists := states[name]
	if !exists || strings.EqualFold(g.State, "Empty") || strings.EqualFold(g.State, "Dead") {
		return nil
	}
	v := groupView{Group: name, Type: g.Type, State: g.State}
	describe := describeClassic
	if strings.EqualFold(g.Type, "consumer") {
		describe = describeConsumer
	}
	if err := describe(ctx, adm, &v); err != nil {
		return groupError(name, err)
	}
	if strings.EqualFold(v.State, "Empty") || strings.EqualFold(v.State, "Dead") {
		return nil
	}
	return fmt.Errorf("group %s is %s and has %d members: stop its consumers first; `millrace groups describe %s` names them", name, v.State, len(v.Members), name)
}

// plan finds the new offsets of one group.
func (r *resetFlags) plan(ctx context.Context, io streams, adm *kadm.Client, name string, scope kadm.TopicsSet, s strategy, from kadm.Offsets) ([]planned, error) {
	committed, err := adm.FetchOffsets(ctx, name)
	if err == nil {
		err = committed.Error() // what is not known is not nothing
	}
	if err != nil {
		return nil, groupError(name, err)
	}
	switch {
	case r.file != "":
		scope = kadm.TopicsSet{}
		from.Each(func(o kadm.Offset) { scope.Add(o.Topic, o.Partition) })
	case r.allTopics:
		scope = kadm.TopicsSet{}
		for topic := range committed {
			scope[topic] = map[int32]struct{}{}
		}
	}
	if len(scope) == 0 {
		return nil, nil // nothing is committed
	}
	scope, err = withPartitions(ctx, adm, scope)
	if err != nil {
		return nil, err
	}
	b, err := s.bounds(ctx, adm, scope)
	if err != nil {
		return nil, err
	}
	var (
		out  []planned
		errs []error
	)
	for topic, partitions := range scope {
		for p := range partitions {
			old := int64(-1)
			if c, ok := committed.Lookup(topic, p); ok {
				old = c.At
			}
			want, _ := from.Lookup(topic, p)
			at, clamped, err := s.target(b, topic, p, old, want.At)
			if err != nil {
				errs = append(errs, fmt.Errorf("group %s, %s-%d: %w", name, topic, p, err))
				continue
			}
			if clamped != "" {
				fmt.Fprintf(io.err, "millrace: group %s, %s-%d: %s\n", name, topic, p, clamped)
			}
			out = append(out, planned{name, topic, p, old, at})
		}
	}
	slices.SortFunc(out, func(a, b planned) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out, errors.Join(errs...)
}

// commitPlan commits, and answers what was done.
func commitPlan(ctx context.Context, adm *kadm.Client, name string, plan []planned) ([]planned, error) {
	if len(plan) == 0 {
		return nil, nil
	}
	offsets := kadm.Offsets{}
	for _, p := range plan {
		offsets.AddOffset(p.Topic, p.Partition, p.New, -1)
	}
	resps, err := adm.CommitOffsets(ctx, name, offsets)
	if err != nil {
		return nil, groupError(name, err)
	}
	var (
		done []planned
		errs []error
	)
	for _, p := range plan {
		r, ok := resps.Lookup(p.Topic, p.Partition)
		if !ok {
			r.Err = errLeftOut
		}
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("%s-%d: %w", p.Topic, p.Partition, groupError(name, r.Err)))
			continue
		}
		done = append(done, p)
	}
	return done, errors.Join(errs...)
}

func (r *resetFlags) print(io streams, plan []planned, several bool) error {
	switch {
	case r.asJSON:
		return json.NewEncoder(io.out).Encode(append([]planned{}, plan...))
	case r.export:
		w := csv.NewWriter(io.out)
		for _, p := range plan {
			line := []string{p.Topic, strconv.Itoa(int(p.Partition)), strconv.FormatInt(p.New, 10)}
			if several {
				line = append([]string{p.Group}, line...)
			}
			if err := w.Write(line); err != nil {
				return err
			}
		}
		w.Flush()
		return w.Error()
	}
	w := tabwriter.NewWriter(io.out, 2, 8, 2, ' ', 0)
	if len(plan) > 0 {
		fmt.Fprintln(w, "GROUP\tTOPIC\tPARTITION\tOLD-OFFSET\tNEW-OFFSET")
	}
	for _, p := range plan {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\n", p.Group, p.Topic, p.Partition, offset(p.Old), p.New)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case len(plan) == 0:
		fmt.Fprintln(io.out, "Nothing to reset.")
	case !r.execute:
		fmt.Fprintln(io.out, "Nothing was changed. With --execute it is done.")
	}
	return nil
}

// readPlan reads TOPIC,PARTITION,OFFSET or, with several groups, GROUP in front.
func readPlan(io streams, path string, groups []string) (map[string]kadm.Offsets, error) {
	in := bufio.NewReader(io.in)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--from-file: %w", err)}
		}
		defer func() { _ = f.Close() }() // only read
		in = bufio.NewReader(f)
	}
	lines := csv.NewReader(in)
	lines.FieldsPerRecord, lines.TrimLeadingSpace, lines.Comment = -1, true, '#'
	out := map[string]kadm.Offsets{}
	for {
		rec, err := lines.Read()
		if errors.Is(err, stdio.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, usagef("--from-file %s: %w", path, err)
		}
		line, _ := lines.FieldPos(0)
		group := groups[0]
		switch {
		case len(rec) == 4:
			group, rec = rec[0], rec[1:]
		case len(rec) != 3 || len(groups) > 1:
			return nil, usagef("--from-file %s, line %d: want TOPIC,PARTITION,OFFSET, and GROUP in front when there are several groups", path, line)
		}
		partition, errP := strconv.ParseInt(rec[1], 10, 32)
		at, errO := strconv.ParseInt(rec[2], 10, 64)
		if errP != nil || errO != nil || partition < 0 || at < 0 {
			return nil, usagef("--from-file %s, line %d: %s,%s is no partition and offset", path, line, rec[1], rec[2])
		}
		if !slices.Contains(groups, group) {
			return nil, usagef("--from-file %s, line %d: group %s is not among those that were named", path, line, group)
		}
		offsets := out[group]
		offsets.AddOffset(rec[0], int32(partition), at, -1)
		out[group] = offsets
	}
}
