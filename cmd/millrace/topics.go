package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newTopics(io streams) *cobra.Command {
	conn := &connection{}
	cmd := &cobra.Command{
		Use: "topics", Short: "Create, list, describe, alter and delete topics",
		Example: `  millrace topics create orders --partitions 12 --config retention.ms=86400000
  millrace topics list
  millrace topics describe orders
  millrace topics alter orders --partitions 24
  millrace topics delete orders`,
	}
	conn.flags(cmd)
	cmd.AddCommand(topicsCreate(io, conn), topicsList(io, conn), topicsDescribe(io, conn), topicsAlter(io, conn), topicsDelete(io, conn))
	return group(cmd)
}

// withAdmin runs f with an admin client.
func withAdmin(ctx context.Context, conn *connection, f func(ctx context.Context, adm *kadm.Client) error) error {
	return withClient(ctx, conn, func(ctx context.Context, _ *kgo.Client, adm *kadm.Client) error { return f(ctx, adm) })
}

// brokerError puts the broker's message after the name of its error.
func brokerError(subject string, err error, message string) error {
	var ke *kerr.Error
	if errors.As(err, &ke) && message != "" {
		return fmt.Errorf("%s: %s: %s", subject, ke.Message, message)
	}
	return fmt.Errorf("%s: %w", subject, err)
}

// configPairs reads name=value flags.
func configPairs(flag string, pairs []string) (map[string]*string, error) {
	out := make(map[string]*string, len(pairs))
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, usagef("--%s %s: want name=value", flag, p)
		}
		if out[name] != nil {
			return nil, usagef("--%s %s is given twice", flag, name)
		}
		out[name] = &value
	}
	return out, nil
}

func topicsCreate(io streams, conn *connection) *cobra.Command {
	var (
		partitions  int32
		replication int16
		configs     []string
		ifNotExists bool
		validate    bool
	)
	cmd := &cobra.Command{
		Use: "create TOPIC...", Short: "Create topics", Args: atLeastOne("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := configPairs("config", configs)
			if err != nil {
				return err
			}
			return withAdmin(cmd.Context(), conn, func(ctx context.Context, adm *kadm.Client) error {
				create := adm.CreateTopics
				if validate {
					create = adm.ValidateCreateTopics
				}
				resps, err := create(ctx, partitions, replication, set, args...)
				if err != nil {
					return fmt.Errorf("create topics: %w", err)
				}
				var errs []error
				for _, name := range args {
					r := resps[name]
					switch {
					case r.Err == nil && validate:
						fmt.Fprintf(io.out, "Topic %s would be created.\n", name)
					case r.Err == nil:
						fmt.Fprintf(io.out, "Created topic %s.\n", name)
					case ifNotExists && errors.Is(r.Err, kerr.TopicAlreadyExists):
						fmt.Fprintf(io.out, "Topic %s exists already.\n", name)
					default:
						errs = append(errs, brokerError("topic "+name, r.Err, r.ErrMessage))
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	f := cmd.Flags()
	f.Int32Var(&partitions, "partitions", -1, "number of partitions; -1 for the broker's num.partitions")
	f.Int16Var(&replication, "replication-factor", -1, "replicas of each partition; -1 for the broker's default.replication.factor")
	f.StringArrayVar(&configs, "config", nil, "topic setting, name=value; may be repeated")
	f.BoolVar(&ifNotExists, "if-not-exists", false, "no error when the topic exists")
	f.BoolVar(&validate, "validate-only", false, "check the request, create nothing")
	return cmd
}

func topicsList(io streams, conn *connection) *cobra.Command {
	var internal, asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List topics", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdmin(cmd.Context(), conn, func(ctx context.Context, adm *kadm.Client) error {
				list := adm.ListTopics
				if internal {
					list = adm.ListTopicsWithInternal
				}
				details, err := list(ctx)
				if err != nil {
					return fmt.Errorf("list topics: %w", err)
				}
				names := details.Names()
				if asJSON {
					return json.NewEncoder(io.out).Encode(append([]string{}, names...))
				}
				for _, name := range names {
					fmt.Fprintln(io.out, name)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "list the cluster's own topics too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// topicView is a topic as describe shows it.
type topicView struct {
	Name       string            `json:"name"`
	ID         string            `json:"id,omitempty"`
	Partitions []partitionView   `json:"partitions"`
	Configs    map[string]string `json:"configs"`
}

type partitionView struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Offline     []int32 `json:"offline,omitempty"`
	Start       int64   `json:"log_start_offset"`
	End         int64   `json:"log_end_offset"`
}

func topicsDescribe(io streams, conn *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "describe [TOPIC...]", Short: "Show partitions, leaders, offsets and settings; of all topics when none is named", Args: anyNumber("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd.Context(), conn, func(ctx context.Context, adm *kadm.Client) error {
				views, err := describeTopics(ctx, adm, args)
				for i := range views {
					if asJSON {
						if err := json.NewEncoder(io.out).Encode(views[i]); err != nil {
							return err
						}
					} else {
						printTopic(io, &views[i])
					}
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each topic")
	return cmd
}

func describeTopics(ctx context.Context, adm *kadm.Client, names []string) ([]topicView, error) {
	details, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	var (
		views []topicView
		found []string
		errs  []error
	)
	for _, d := range details.Sorted() {
		if d.Err != nil {
			errs = append(errs, brokerError("topic "+d.Topic, d.Err, ""))
			continue
		}
		found = append(found, d.Topic)
		v := topicView{Name: d.Topic, ID: base64.RawURLEncoding.EncodeToString(d.ID[:]), Configs: map[string]string{}}
		for _, p := range d.Partitions.Sorted() {
			v.Partitions = append(v.Partitions, partitionView{
				Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
				Replicas: p.Replicas, ISR: p.ISR, Offline: p.OfflineReplicas, Start: -1, End: -1,
			})
		}
		views = append(views, v)
	}
	if len(found) == 0 {
		return nil, errors.Join(errs...)
	}
	addOffsets(ctx, adm, views, found)
	configs, err := adm.DescribeTopicConfigs(ctx, found...)
	if err != nil {
		errs = append(errs, fmt.Errorf("describe settings: %w", err))
	}
	for i := range views {
		c, err := configs.On(views[i].Name, nil)
		if err != nil {
			continue
		}
		for _, e := range c.Configs {
			if strings.HasPrefix(e.Source.String(), "DYNAMIC_TOPIC") {
				views[i].Configs[e.Key] = e.MaybeValue()
			}
		}
	}
	return views, errors.Join(errs...)
}

// addOffsets fills in the offsets of partitions that have a leader to ask.
func addOffsets(ctx context.Context, adm *kadm.Client, views []topicView, names []string) {
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return // shown as -1
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return
	}
	for i := range views {
		for j := range views[i].Partitions {
			p := &views[i].Partitions[j]
			if o, ok := starts.Lookup(views[i].Name, p.Partition); ok && o.Err == nil {
				p.Start = o.Offset
			}
			if o, ok := ends.Lookup(views[i].Name, p.Partition); ok && o.Err == nil {
				p.End = o.Offset
			}
		}
	}
}

func printTopic(io streams, v *topicView) {
	replication := 0
	if len(v.Partitions) > 0 {
		replication = len(v.Partitions[0].Replicas)
	}
	settings := make([]string, 0, len(v.Configs))
	for _, k := range slices.Sorted(maps.Keys(v.Configs)) {
		settings = append(settings, k+"="+v.Configs[k])
	}
	fmt.Fprintf(io.out, "Topic: %s\tTopicId: %s\tPartitionCount: %d\tReplicationFactor: %d\tConfigs: %s\n",
		v.Name, v.ID, len(v.Partitions), replication, strings.Join(settings, ","))
	w := tabwriter.NewWriter(io.out, 2, 8, 2, ' ', 0)
	for _, p := range v.Partitions {
		fmt.Fprintf(w, "  Partition: %d\tLeader: %s\tEpoch: %d\tReplicas: %s\tIsr: %s\tOffsets: %s\n",
			p.Partition, orNone(p.Leader), p.LeaderEpoch, ids(p.Replicas), ids(p.ISR), offsets(p.Start, p.End))
	}
	// The writer below is the same one, and its errors show up there.
	_ = w.Flush()
}

func orNone(leader int32) string {
	if leader < 0 {
		return "none"
	}
	return strconv.Itoa(int(leader))
}

func offsets(start, end int64) string {
	if start < 0 || end < 0 {
		return "unknown"
	}
	return fmt.Sprintf("%d..%d", start, end)
}

func ids(list []int32) string {
	s := make([]string, len(list))
	for i, n := range list {
		s[i] = strconv.Itoa(int(n))
	}
	return strings.Join(s, ",")
}

func topicsAlter(io streams, conn *connection) *cobra.Command {
	var partitions int
	cmd := &cobra.Command{
		Use: "alter TOPIC", Short: "Raise a topic's number of partitions (settings: millrace config alter)", Args: exactly("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if partitions <= 0 {
				return usagef("--partitions is missing: it says how many the topic is to have")
			}
			return withAdmin(cmd.Context(), conn, func(ctx context.Context, adm *kadm.Client) error {
				resps, err := adm.UpdatePartitions(ctx, partitions, args...)
				if err != nil {
					return fmt.Errorf("alter topic %s: %w", args[0], err)
				}
				if r := resps[args[0]]; r.Err != nil {
					return brokerError("topic "+args[0], r.Err, r.ErrMessage)
				}
				fmt.Fprintf(io.out, "Topic %s has %d partitions.\n", args[0], partitions)
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&partitions, "partitions", 0, "number of partitions that the topic is to have")
	return cmd
}

func topicsDelete(io streams, conn *connection) *cobra.Command {
	var ifExists bool
	cmd := &cobra.Command{
		Use: "delete TOPIC...", Short: "Delete topics and all their records", Args: atLeastOne("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd.Context(), conn, func(ctx context.Context, adm *kadm.Client) error {
				resps, err := adm.DeleteTopics(ctx, args...)
				if err != nil {
					return fmt.Errorf("delete topics: %w", err)
				}
				var errs []error
				for _, name := range args {
					r := resps[name]
					switch {
					case r.Err == nil:
						fmt.Fprintf(io.out, "Deleted topic %s.\n", name)
					case ifExists && errors.Is(r.Err, kerr.UnknownTopicOrPartition):
						fmt.Fprintf(io.out, "Topic %s does not exist.\n", name)
					default:
						errs = append(errs, brokerError("topic "+name, r.Err, r.ErrMessage))
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "no error when the topic does not exist")
	return cmd
}
