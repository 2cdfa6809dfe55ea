package main

import (
	"cmp"
	"context"
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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupView is a group as describe shows it.
type groupView struct {
	Group       string         `json:"group"`
	Type        string         `json:"type"`
	State       string         `json:"state"`
	Protocol    string         `json:"protocol_type,omitempty"`
	Assignor    string         `json:"assignor,omitempty"`
	Epoch       int32          `json:"epoch,omitempty"`
	Coordinator int32          `json:"coordinator"`
	Members     []memberView   `json:"members"`
	Offsets     []groupOffsets `json:"offsets"`
	Lag         int64          `json:"lag"`
	// Configs are the settings of the group itself.
	Configs map[string]string `json:"configs,omitempty"`
}

// memberView is one member. Assigned is by topic.
type memberView struct {
	ID         string             `json:"member_id"`
	InstanceID string             `json:"instance_id,omitempty"`
	ClientID   string             `json:"client_id"`
	Host       string             `json:"host"`
	Topics     []string           `json:"topics,omitempty"`
	Assigned   map[string][]int32 `json:"assigned"`
}

// groupOffsets is where a group is in one partition. Committed is -1 where it has
// committed nothing, and the others where they could not be found; the lag counts from
// the start of the log then.
type groupOffsets struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed_offset"`
	Start     int64  `json:"log_start_offset"`
	End       int64  `json:"log_end_offset"`
	Lag       int64  `json:"lag"`
	Metadata  string `json:"metadata,omitempty"`
	Member    string `json:"member_id,omitempty"`
}

func groupsDescribe(io streams, conn *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "describe [GROUP...]", Short: "Show state, members, assignments, offsets and lag; of all groups when none is named", Args: anyNumber("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd.Context(), conn, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				views, err := describeGroups(ctx, cl, adm, args)
				printErr := printEach(io, views, asJSON, func(i int, v *groupView) error {
					if i > 0 {
						fmt.Fprintln(io.out)
					}
					return printGroup(io, v)
				})
				return cmp.Or(printErr, err)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each group")
	return cmd
}

// describeGroups shows what can be shown, and the errors of the rest.
func describeGroups(ctx context.Context, cl *kgo.Client, adm *kadm.Client, names []string) ([]groupView, error) {
	listed, listErr := listGroups(ctx, cl, nil, nil)
	if len(listed) == 0 && listErr != nil {
		return nil, listErr
	}
	all := map[string]listedGroup{}
	for _, g := range listed {
		all[g.Group] = g
	}
	errs := []error{listErr}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(all))
	}
	var views []groupView
	for _, name := range names {
		g, ok := all[name]
		if !ok {
			errs = append(errs, groupError(name, kerr.GroupIDNotFound))
			continue
		}
		v, err := describeGroup(ctx, adm, g)
		errs = append(errs, err)
		views = append(views, v)
	}
	if len(views) > 0 {
		errs = append(errs, addGroupSettings(ctx, cl, views))
	}
	return views, errors.Join(errs...)
}

// addGroupSettings fills in what is set for the groups themselves.
func addGroupSettings(ctx context.Context, cl *kgo.Client, views []groupView) error {
	names := make([]string, len(views))
	for i := range views {
		names[i] = views[i].Group
	}
	set, err := ownSettings(ctx, cl, kmsg.ConfigResourceTypeGroupConfig, names)
	for i := range views {
		views[i].Configs = set[views[i].Group]
	}
	return err
}

// describeGroup shows what is known of a group also where it fails.
func describeGroup(ctx context.Context, adm *kadm.Client, g listedGroup) (groupView, error) {
	v := groupView{Group: g.Group, Type: g.Type, State: g.State, Protocol: g.Protocol, Coordinator: g.Coordinator, Members: []memberView{}, Offsets: []groupOffsets{}}
	describe := describeClassic
	if strings.EqualFold(g.Type, "consumer") {
		describe = describeConsumer
	}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, groupError(g.Group, err))
		}
	}
	note(describe(ctx, adm, &v))
	committed, err := adm.FetchOffsets(ctx, g.Group)
	note(cmp.Or(err, committed.Error()))
	note(v.addOffsets(ctx, adm, committed))
	return v, errors.Join(errs...)
}

// describeClassic fills in the members of a group of the classic protocol.
func describeClassic(ctx context.Context, adm *kadm.Client, v *groupView) error {
	groups, err := adm.DescribeGroups(ctx, v.Group)
	if err != nil {
		return err
	}
	d := groups[v.Group]
	if d.Err != nil {
		return d.Err
	}
	v.State, v.Assignor, v.Protocol = d.State, d.Protocol, d.ProtocolType
	for _, m := range d.Members {
		view := memberView{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost, Assigned: map[string][]int32{}}
		if m.InstanceID != nil {
			view.InstanceID = *m.InstanceID
		}
		if join, ok := m.Join.AsConsumer(); ok {
			view.Topics = slices.Sorted(slices.Values(join.Topics))
		}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range assigned.Topics {
				view.Assigned[t.Topic] = slices.Sorted(slices.Values(t.Partitions))
			}
		}
		v.Members = append(v.Members, view)
	}
	return nil
}

// describeConsumer fills in the members of a group of KIP-848.
func describeConsumer(ctx context.Context, adm *kadm.Client, v *groupView) error {
	groups, err := adm.DescribeConsumerGroups(ctx, v.Group)
	if err != nil {
		return err
	}
	d := groups[v.Group]
	if d.Err != nil {
		return d.Err
	}
	v.State, v.Assignor, v.Epoch = d.State, d.AssignorName, d.Epoch
	for _, m := range d.Members {
		view := memberView{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost, Topics: slices.Sorted(slices.Values(m.SubscribedTopics)), Assigned: map[string][]int32{}}
		if m.InstanceID != nil {
			view.InstanceID = *m.InstanceID
		}
		if m.SubscribedTopicRegex != nil && *m.SubscribedTopicRegex != "" {
			view.Topics = append(view.Topics, "/"+*m.SubscribedTopicRegex+"/")
		}
		for topic, partitions := range m.Assignment {
			view.Assigned[topic] = slices.Sorted(maps.Keys(partitions))
		}
		v.Members = append(v.Members, view)
	}
	return nil
}

// addOffsets fills in the offsets of what is committed or assigned.
func (v *groupView) addOffsets(ctx context.Context, adm *kadm.Client, committed kadm.OffsetResponses) error {
	places := committed.Partitions()
	owners := map[string]map[int32]string{}
	for _, m := range v.Members {
		for topic, partitions := range m.Assigned {
			places.Add(topic, partitions...)
			if owners[topic] == nil {
				owners[topic] = map[int32]string{}
			}
			for _, p := range partitions {
				owners[topic][p] = m.ID
			}
		}
	}
	var (
		starts, ends     kadm.ListedOffsets
		startErr, endErr error
	)
	if topics := places.Topics(); len(topics) > 0 {
		starts, startErr = adm.ListStartOffsets(ctx, topics...)
		ends, endErr = adm.ListEndOffsets(ctx, topics...)
	}
	for topic, partitions := range places {
		for p := range partitions {
			o := groupOffsets{Topic: topic, Partition: p, Committed: -1, Start: at(starts, topic, p), End: at(ends, topic, p), Lag: -1, Member: owners[topic][p]}
			if c, ok := committed.Lookup(topic, p); ok {
				o.Committed, o.Metadata = c.At, c.Metadata
			}
			if o.End >= 0 {
				o.Lag = max(0, o.End-max(o.Committed, o.Start, 0))
				v.Lag += o.Lag
			}
			v.Offsets = append(v.Offsets, o)
		}
	}
	slices.SortFunc(v.Offsets, func(a, b groupOffsets) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	if err := cmp.Or(startErr, endErr); err != nil {
		return fmt.Errorf("find where the logs begin and end: %w", err)
	}
	return nil
}

// at is a listed offset; -1 when it could not be found.
func at(listed kadm.ListedOffsets, topic string, p int32) int64 {
	if o, ok := listed.Lookup(topic, p); ok && o.Err == nil {
		return o.Offset
	}
	return -1
}

func printGroup(io streams, v *groupView) error {
	fmt.Fprintf(io.out, "Group: %s\tType: %s\tState: %s\tAssignor: %s\tCoordinator: %d\tMembers: %d\tLag: %d%s\n",
		v.Group, v.Type, v.State, orDash(v.Assignor), v.Coordinator, len(v.Members), v.Lag, groupConfigs(v.Configs))
	w := tabwriter.NewWriter(io.out, 2, 8, 2, ' ', 0)
	if len(v.Members) > 0 {
		fmt.Fprintln(w, "  MEMBER\tINSTANCE\tCLIENT\tHOST\tASSIGNED")
		for _, m := range v.Members {
			var assigned []string
			for _, topic := range slices.Sorted(maps.Keys(m.Assigned)) {
				assigned = append(assigned, topic+":"+ids(m.Assigned[topic]))
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", m.ID, orDash(m.InstanceID), orDash(m.ClientID), m.Host, orDash(strings.Join(assigned, " ")))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(v.Offsets) > 0 {
		fmt.Fprintln(w, "  TOPIC\tPARTITION\tCOMMITTED\tLOG-END\tLAG\tMEMBER")
		for _, o := range v.Offsets {
			fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%s\t%s\n", o.Topic, o.Partition, offset(o.Committed), offset(o.End), offset(o.Lag), orDash(o.Member))
		}
	}
	return w.Flush()
}

// groupConfigs shows the settings of a group that has some, or of which they are not known.
func groupConfigs(configs map[string]string) string {
	if configs != nil && len(configs) == 0 {
		return ""
	}
	return "\tConfigs: " + settingsList(configs)
}

// offset shows one that may not be known.
func offset(o int64) string {
	if o < 0 {
		return "-"
	}
	return strconv.FormatInt(o, 10)
}
