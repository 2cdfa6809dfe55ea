package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// resource says whose settings are meant.
type resource struct {
	topic  string
	group  string
	broker int32
	all    bool
}

func (r *resource) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.topic, "topic", "", "settings of this topic")
	f.StringVar(&r.group, "group", "", "settings of this group (of the consumer protocol)")
	f.Int32Var(&r.broker, "broker", -1, "settings of the broker with this id")
	f.BoolVar(&r.all, "broker-defaults", false, "the dynamic settings that all brokers share")
}

func (r *resource) check() error {
	n := 0
	for _, given := range []bool{r.topic != "", r.group != "", r.broker >= 0, r.all} {
		if given {
			n++
		}
	}
	if n != 1 {
		return usagef("give one of --topic, --group, --broker and --broker-defaults")
	}
	return nil
}

func newConfig(io streams) *cobra.Command {
	conn := &connection{}
	cmd := &cobra.Command{
		Use: "config", Short: "Show and change the settings of topics, groups and brokers",
		Example: `  millrace config describe --topic orders
  millrace config describe --broker 0 --all
  millrace config alter --topic orders --set retention.ms=3600000 --delete segment.bytes
  millrace config alter --group billing --set consumer.session.timeout.ms=60000`,
	}
	conn.flags(cmd)
	cmd.AddCommand(configDescribe(io, conn), configAlter(io, conn))
	return group(cmd)
}

func configDescribe(io streams, conn *connection) *cobra.Command {
	var (
		r           resource
		all, asJSON bool
	)
	cmd := &cobra.Command{
		Use: "describe", Short: "Show settings that were set; with --all the defaults too", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.check(); err != nil {
				return err
			}
			return withClient(cmd.Context(), conn, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				configs, err := describeConfigs(ctx, cl, adm, &r)
				if err != nil {
					return err
				}
				if !all {
					configs = slices.DeleteFunc(configs, func(c kadm.Config) bool {
						return c.Source.String() == "DEFAULT_CONFIG" || r.topic != "" && !strings.HasPrefix(c.Source.String(), "DYNAMIC_TOPIC") ||
							r.group != "" && c.Source != kmsg.ConfigSourceGroupConfig
					})
				}
				return printConfigs(io, configs, asJSON)
			})
		},
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "show every setting, the defaults too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each setting")
	return cmd
}

func describeConfigs(ctx context.Context, cl *kgo.Client, adm *kadm.Client, r *resource) ([]kadm.Config, error) {
	var (
		got  kadm.ResourceConfigs
		err  error
		name string
	)
	switch {
	case r.topic != "":
		name = r.topic
		got, err = adm.DescribeTopicConfigs(ctx, r.topic)
	case r.group != "":
		name = r.group
		got, err = describeGroupConfigs(ctx, cl, r.group)
	case r.all:
		got, err = adm.DescribeBrokerConfigs(ctx)
	default:
		name = strconv.Itoa(int(r.broker))
		got, err = adm.DescribeBrokerConfigs(ctx, r.broker)
	}
	if err != nil {
		if known, listErr := adm.ListBrokers(ctx); listErr == nil && r.broker >= 0 && !slices.Contains(known.NodeIDs(), r.broker) {
			return nil, fmt.Errorf("describe settings: the cluster has no broker %d, only %s", r.broker, ids(known.NodeIDs()))
		}
		return nil, fmt.Errorf("describe settings: %w", err)
	}
	rc, err := got.On(name, nil)
	if err == nil {
		err = rc.Err
	}
	if err != nil {
		return nil, brokerError("describe settings", err, rc.ErrMessage)
	}
	slices.SortFunc(rc.Configs, func(a, b kadm.Config) int { return strings.Compare(a.Key, b.Key) })
	return rc.Configs, nil
}

func printConfigs(io streams, configs []kadm.Config, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(io.out)
		for _, c := range configs {
			if err := enc.Encode(struct {
				Name      string  `json:"name"`
				Value     *string `json:"value"`
				Source    string  `json:"source"`
				Sensitive bool    `json:"sensitive,omitempty"`
			}{c.Key, c.Value, c.Source.String(), c.Sensitive}); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(io.out, 2, 8, 2, ' ', 0)
	for _, c := range configs {
		value := c.MaybeValue()
		if c.Sensitive {
			value = "(hidden)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Key, value, strings.ToLower(c.Source.String()))
	}
	return w.Flush()
}

func configAlter(io streams, conn *connection) *cobra.Command {
	var (
		r                          resource
		set, del, appends, removes []string
		validate                   bool
	)
	cmd := &cobra.Command{
		Use: "alter", Short: "Change settings at run time", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.check(); err != nil {
				return err
			}
			var changes []kadm.AlterConfig
			for _, group := range []struct {
				flag  string
				pairs []string
				op    kadm.IncrementalOp
			}{{"set", set, kadm.SetConfig}, {"append", appends, kadm.AppendConfig}, {"subtract", removes, kadm.SubtractConfig}} {
				pairs, err := configPairs(group.flag, group.pairs)
				if err != nil {
					return err
				}
				for name, value := range pairs {
					changes = append(changes, kadm.AlterConfig{Op: group.op, Name: name, Value: value})
				}
			}
			for _, name := range del {
				changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
			}
			if len(changes) == 0 {
				return usagef("nothing to change: give --set name=value or --delete name")
			}
			return withClient(cmd.Context(), conn, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				if err := alterConfigs(ctx, cl, adm, &r, changes, validate); err != nil {
					return err
				}
				if validate {
					fmt.Fprintln(io.out, "The change would be accepted.")
				} else {
					fmt.Fprintln(io.out, "Changed.")
				}
				return nil
			})
		},
	}
	r.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&set, "set", nil, "name=value to set; may be repeated")
	f.StringArrayVar(&del, "delete", nil, "name to put back to its default; may be repeated")
	f.StringArrayVar(&appends, "append", nil, "name=value to add to a list; may be repeated")
	f.StringArrayVar(&removes, "subtract", nil, "name=value to take from a list; may be repeated")
	f.BoolVar(&validate, "validate-only", false, "check the change, make none")
	return cmd
}

func alterConfigs(ctx context.Context, cl *kgo.Client, adm *kadm.Client, r *resource, changes []kadm.AlterConfig, validate bool) error {
	var (
		resps kadm.AlterConfigsResponses
		err   error
	)
	switch {
	case r.group != "":
		resps, err = alterGroupConfigs(ctx, cl, changes, validate, r.group)
	case r.topic != "" && validate:
		resps, err = adm.ValidateAlterTopicConfigs(ctx, changes, r.topic)
	case r.topic != "":
		resps, err = adm.AlterTopicConfigs(ctx, changes, r.topic)
	default:
		var brokers []int32 // none: the defaults of all
		if !r.all {
			brokers = []int32{r.broker}
		}
		if validate {
			resps, err = adm.ValidateAlterBrokerConfigs(ctx, changes, brokers...)
		} else {
			resps, err = adm.AlterBrokerConfigs(ctx, changes, brokers...)
		}
	}
	if err != nil {
		return fmt.Errorf("alter settings: %w", err)
	}
	if len(resps) == 0 {
		return fmt.Errorf("alter settings: %w", errLeftOut)
	}
	var errs []error
	for _, resp := range resps {
		if resp.Err != nil {
			errs = append(errs, brokerError("alter settings", resp.Err, resp.ErrMessage))
		}
	}
	return errors.Join(errs...)
}
