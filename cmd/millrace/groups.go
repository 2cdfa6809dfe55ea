package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newGroups(io streams) *cobra.Command {
	conn := &connection{}
	cmd := &cobra.Command{
		Use: "groups", Short: "List, describe, reset and delete consumer groups",
		Example: `  millrace groups list --long
  millrace groups describe billing
  millrace groups reset-offsets billing --topic orders --to-datetime 2026-11-25T06:00:00Z
  millrace groups reset-offsets billing --topic orders:0,3 --to-earliest --execute
  millrace groups delete-offsets billing --topic old-orders
  millrace groups delete billing`,
	}
	conn.flags(cmd)
	cmd.AddCommand(groupsList(io, conn), groupsDescribe(io, conn), groupsReset(io, conn), groupsDelete(io, conn), groupsDeleteOffsets(io, conn))
	return group(cmd)
}

// listedGroup is a group as list shows it.
type listedGroup struct {
	Group       string `json:"group"`
	Type        string `json:"type"`
	State       string `json:"state"`
	Protocol    string `json:"protocol_type"`
	Coordinator int32  `json:"coordinator"`
}

// listGroups asks every broker for its groups, by name. The filters may be nil.
func listGroups(ctx context.Context, cl *kgo.Client, states, types []string) ([]listedGroup, error) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter, req.TypesFilter = states, types
	var (
		groups []listedGroup
		errs   []error
	)
	for _, shard := range cl.RequestSharded(ctx, req) {
		resp, ok := shard.Resp.(*kmsg.ListGroupsResponse)
		err := shard.Err
		if err == nil && ok {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("list the groups of broker %d: %w", shard.Meta.NodeID, err))
			continue
		}
		for _, g := range resp.Groups {
			l := listedGroup{g.Group, g.GroupType, g.GroupState, g.ProtocolType, shard.Meta.NodeID}
			if l.Type == "" { // before Kafka 3.8 there was one type
				l.Type = "classic"
			}
			groups = append(groups, l)
		}
	}
	slices.SortFunc(groups, func(a, b listedGroup) int { return strings.Compare(a.Group, b.Group) })
	return groups, errors.Join(errs...)
}

// What groups can be, by Kafka's names; a broker may know fewer.
const (
	groupStates = "Stable, Empty, PreparingRebalance, CompletingRebalance, Dead, Assigning, Reconciling, NotReady"
	groupTypes  = "classic, consumer, share, streams"
)

// oneOf refuses values of a flag that no broker knows, and would answer with nothing.
func oneOf(flag string, values []string, known string) error {
	for _, v := range values {
		if !slices.ContainsFunc(strings.Split(known, ", "), func(k string) bool { return strings.EqualFold(k, v) }) {
			return usagef("--%s %s: want some of %s", flag, v, known)
		}
	}
	return nil
}

func groupsList(io streams, conn *connection) *cobra.Command {
	var (
		states, types []string
		long, asJSON  bool
	)
	cmd := &cobra.Command{
		Use: "list", Short: "List groups", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(oneOf("state", states, groupStates), oneOf("type", types, groupTypes)); err != nil {
				return err
			}
			return withClient(cmd.Context(), conn, func(ctx context.Context, cl *kgo.Client, _ *kadm.Client) error {
				groups, err := listGroups(ctx, cl, states, types)
				switch {
				case asJSON:
					if e := json.NewEncoder(io.out).Encode(append([]listedGroup{}, groups...)); e != nil {
						return e
					}
				case long:
					w := tabwriter.NewWriter(io.out, 2, 8, 2, ' ', 0)
					fmt.Fprintln(w, "GROUP\tTYPE\tSTATE\tPROTOCOL\tCOORDINATOR")
					for _, g := range groups {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", g.Group, g.Type, orDash(g.State), orDash(g.Protocol), g.Coordinator)
					}
					if e := w.Flush(); e != nil {
						return e
					}
				default:
					for _, g := range groups {
						fmt.Fprintln(io.out, g.Group)
					}
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&states, "state", nil, "only groups in these states: "+groupStates)
	f.StringSliceVar(&types, "type", nil, "only groups of these types: "+groupTypes)
	f.BoolVarP(&long, "long", "l", false, "print type, state, protocol and coordinator too")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// topicFlag reads TOPIC or TOPIC:0,1,2; no partitions are all of them.
func topicFlag(args []string) (kadm.TopicsSet, error) {
	set := kadm.TopicsSet{}
	for _, arg := range args {
		topic, list, some := strings.Cut(arg, ":")
		if topic == "" || some && list == "" {
			return nil, usagef("--topic %s: want TOPIC or TOPIC:PARTITION,PARTITION", arg)
		}
		if !some {
			set[topic] = map[int32]struct{}{}
			continue
		}
		if whole, ok := set[topic]; ok && len(whole) == 0 {
			continue
		}
		for part := range strings.SplitSeq(list, ",") {
			p, err := strconv.ParseInt(part, 10, 32)
			if err != nil || p < 0 {
				return nil, usagef("--topic %s: %q is no partition", arg, part)
			}
			set.Add(topic, int32(p))
		}
	}
	return set, nil
}

// withPartitions fills in the partitions of topics that are meant whole, and sees that
// all of them exist.
func withPartitions(ctx context.Context, adm *kadm.Client, set kadm.TopicsSet) (kadm.TopicsSet, error) {
	details, err := adm.ListTopicsWithInternal(ctx, slices.Sorted(maps.Keys(set))...)
	if err != nil {
		return nil, fmt.Errorf("look up topics: %w", err)
	}
	out := kadm.TopicsSet{}
	var errs []error
	for _, topic := range slices.Sorted(maps.Keys(set)) {
		partitions := set[topic]
		d := details[topic]
		if d.Err != nil {
			errs = append(errs, brokerError("topic "+topic, d.Err, ""))
			continue
		}
		if len(partitions) == 0 {
			out.Add(topic, d.Partitions.Numbers()...)
		}
		for _, p := range slices.Sorted(maps.Keys(partitions)) {
			if _, ok := d.Partitions[p]; !ok {
				errs = append(errs, usagef("--topic %s:%d: topic %s has partitions 0 to %d", topic, p, topic, len(d.Partitions)-1))
				continue
			}
			out.Add(topic, p)
		}
	}
	return out, errors.Join(errs...)
}

// coordinatorPause is how long to wait before a coordinator is looked for again.
const coordinatorPause = 100 * time.Millisecond

// awaitCoordinators waits until groups have coordinators: the first group of a cluster
// brings the topic of all groups into being, which may take longer than a broker lets a
// request wait.
func awaitCoordinators(ctx context.Context, adm *kadm.Client, names []string) error {
	for {
		found := adm.FindGroupCoordinators(ctx, names...)
		if !errors.Is(found.Error(), kerr.CoordinatorNotAvailable) {
			return nil // any other error comes again, from what is asked of the coordinator
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("find the coordinator of group %s: %w", names[0], found.Error())
		case <-time.After(coordinatorPause):
		}
	}
}

// groupError says what is to be done about the errors that groups have.
func groupError(group string, err error) error {
	switch {
	case errors.Is(err, kerr.NonEmptyGroup), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress):
		return fmt.Errorf("group %s has members: stop its consumers first; `millrace groups describe %s` names them: %w", group, group, err)
	case errors.Is(err, kerr.GroupIDNotFound):
		return fmt.Errorf("group %s does not exist: %w", group, err)
	case errors.Is(err, kerr.GroupSubscribedToTopic):
		return fmt.Errorf("group %s reads the topic: stop those of its consumers that do; `millrace groups describe %s` names them: %w", group, group, err)
	default:
		return brokerError("group "+group, err, "")
	}
}

func groupsDelete(io streams, conn *connection) *cobra.Command {
	var ifExists bool
	cmd := &cobra.Command{
		Use: "delete GROUP...", Short: "Delete groups that have no members, with their committed offsets", Args: atLeastOne("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd.Context(), conn, func(ctx context.Context, adm *kadm.Client) error {
				if err := awaitCoordinators(ctx, adm, args); err != nil {
					return err
				}
				resps, err := adm.DeleteGroups(ctx, args...)
				return eachAnswer("group", args, resps, err, func(name string, r kadm.DeleteGroupResponse) error {
					switch {
					case r.Err == nil:
						fmt.Fprintf(io.out, "Deleted group %s.\n", name)
					case ifExists && errors.Is(r.Err, kerr.GroupIDNotFound):
						fmt.Fprintf(io.out, "Group %s does not exist.\n", name)
					default:
						return groupError(name, r.Err)
					}
					return nil
				})
			})
		},
	}
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "no error when the group does not exist")
	return cmd
}

func groupsDeleteOffsets(io streams, conn *connection) *cobra.Command {
	var topics []string
	cmd := &cobra.Command{
		Use: "delete-offsets GROUP", Short: "Forget what a group has committed for topics that it does not read any more", Args: exactly("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := topicFlag(topics)
			if err != nil {
				return err
			}
			if len(set) == 0 {
				return usagef("--topic is missing: it says for what the offsets are to be deleted")
			}
			return withAdmin(cmd.Context(), conn, func(ctx context.Context, adm *kadm.Client) error {
				return deleteOffsets(ctx, io, adm, args[0], set)
			})
		},
	}
	cmd.Flags().StringArrayVar(&topics, "topic", nil, "TOPIC, or TOPIC:0,1 for some partitions; may be repeated")
	return cmd
}

// deleteOffsets does not look the topics up: they may be gone. Whole topics are those
// of which the group has committed something.
func deleteOffsets(ctx context.Context, io streams, adm *kadm.Client, name string, set kadm.TopicsSet) error {
	if err := awaitCoordinators(ctx, adm, []string{name}); err != nil {
		return err
	}
	committed, err := adm.FetchOffsets(ctx, name)
	if err != nil {
		return groupError(name, err)
	}
	var errs []error
	for _, topic := range slices.Sorted(maps.Keys(set)) {
		if len(set[topic]) > 0 {
			continue
		}
		if len(committed[topic]) == 0 {
			errs = append(errs, fmt.Errorf("group %s has committed nothing for topic %s", name, topic))
			delete(set, topic)
			continue
		}
		set.Add(topic, slices.Collect(maps.Keys(committed[topic]))...)
	}
	if len(set) == 0 {
		return errors.Join(errs...)
	}
	resps, err := adm.DeleteOffsets(ctx, name, set)
	if err != nil {
		return groupError(name, err)
	}
	for _, topic := range slices.Sorted(maps.Keys(set)) {
		for _, p := range slices.Sorted(maps.Keys(set[topic])) {
			err, ok := resps[topic][p]
			if !ok {
				err = errLeftOut
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s-%d: %w", topic, p, groupError(name, err)))
				continue
			}
			fmt.Fprintf(io.out, "Deleted the offset of %s for %s-%d.\n", name, topic, p)
		}
	}
	return errors.Join(errs...)
}
