package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicView is a topic as describe shows it.
type topicView struct {
	Name       string            `json:"name"`
	ID         string            `json:"id,omitempty"`
	Partitions []partitionView   `json:"partitions"`
	Configs    map[string]string `json:"configs"` // nil: not known
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
			return withClient(cmd.Context(), conn, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				views, err := describeTopics(ctx, cl, adm, args)
				printErr := printEach(io, views, asJSON, func(_ int, v *topicView) error { return printTopic(io, v) })
				return cmp.Or(printErr, err)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each topic")
	return cmd
}

// describeTopics shows what can be shown, and the errors of the rest.
func describeTopics(ctx context.Context, cl *kgo.Client, adm *kadm.Client, names []string) ([]topicView, error) {
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
		v := topicView{Name: d.Topic, ID: base64.RawURLEncoding.EncodeToString(d.ID[:])}
		for _, p := range d.Partitions.Sorted() {
			v.Partitions = append(v.Partitions, partitionView{
				Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
				Replicas: p.Replicas, ISR: p.ISR, Offline: p.OfflineReplicas, Start: -1, End: -1,
			})
		}
		views = append(views, v)
	}
	if len(found) > 0 {
		errs = append(errs, addOffsets(ctx, adm, views, found), addSettings(ctx, cl, views, found))
	}
	return views, errors.Join(errs...)
}

// addSettings fills in what is set for the topics themselves.
func addSettings(ctx context.Context, cl *kgo.Client, views []topicView, names []string) error {
	set, err := ownSettings(ctx, cl, kmsg.ConfigResourceTypeTopic, names)
	for i := range views {
		views[i].Configs = set[views[i].Name]
	}
	return err
}

// addOffsets fills in the offsets of partitions that have a leader to ask.
func addOffsets(ctx context.Context, adm *kadm.Client, views []topicView, names []string) error {
	starts, startErr := adm.ListStartOffsets(ctx, names...)
	ends, endErr := adm.ListEndOffsets(ctx, names...)
	errs := []error{cmp.Or(startErr, endErr)} // what they have is shown
	for i := range views {
		for j := range views[i].Partitions {
			p := &views[i].Partitions[j]
			start, ok := starts.Lookup(views[i].Name, p.Partition)
			end, also := ends.Lookup(views[i].Name, p.Partition)
			err := cmp.Or(start.Err, end.Err)
			switch {
			case ok && also && err == nil:
				p.Start, p.End = start.Offset, end.Offset
			case p.Leader < 0: // shown
			case err != nil:
				errs = append(errs, fmt.Errorf("offsets of %s-%d: %w", views[i].Name, p.Partition, err))
			case errs[0] == nil:
				errs = append(errs, fmt.Errorf("offsets of %s-%d: %w", views[i].Name, p.Partition, errLeftOut))
			}
		}
	}
	if errs[0] != nil {
		errs[0] = fmt.Errorf("describe offsets: %w", errs[0])
	}
	return errors.Join(errs...)
}

func printTopic(io streams, v *topicView) error {
	replication := 0
	if len(v.Partitions) > 0 {
		replication = len(v.Partitions[0].Replicas)
	}
	fmt.Fprintf(io.out, "Topic: %s\tTopicId: %s\tPartitionCount: %d\tReplicationFactor: %d\tConfigs: %s\n",
		v.Name, v.ID, len(v.Partitions), replication, settingsList(v.Configs))
	w := tabwriter.NewWriter(io.out, 2, 8, 2, ' ', 0)
	for _, p := range v.Partitions {
		fmt.Fprintf(w, "  Partition: %d\tLeader: %s\tEpoch: %d\tReplicas: %s\tIsr: %s\tOffsets: %s\n",
			p.Partition, orNone(p.Leader), p.LeaderEpoch, ids(p.Replicas), ids(p.ISR), offsets(p.Start, p.End))
	}
	return w.Flush()
}

// settingsList shows settings, NAME=VALUE, by name.
func settingsList(configs map[string]string) string {
	if configs == nil {
		return "unknown"
	}
	list := make([]string, 0, len(configs))
	for _, k := range slices.Sorted(maps.Keys(configs)) {
		list = append(list, k+"="+configs[k])
	}
	return strings.Join(list, ",")
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
