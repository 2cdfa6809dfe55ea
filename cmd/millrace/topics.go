package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
				return eachAnswer("topic", args, resps, nil, func(name string, r kadm.CreateTopicResponse) error {
					switch {
					case r.Err == nil && validate:
						fmt.Fprintf(io.out, "Topic %s would be created.\n", name)
					case r.Err == nil:
						fmt.Fprintf(io.out, "Created topic %s.\n", name)
					case ifNotExists && errors.Is(r.Err, kerr.TopicAlreadyExists):
						fmt.Fprintf(io.out, "Topic %s exists already.\n", name)
					default:
						return brokerError("topic "+name, r.Err, r.ErrMessage)
					}
					return nil
				})
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
				return eachAnswer("topic", args, resps, nil, func(name string, r kadm.CreatePartitionsResponse) error {
					if r.Err != nil {
						return brokerError("topic "+name, r.Err, r.ErrMessage)
					}
					fmt.Fprintf(io.out, "Topic %s has %d partitions.\n", name, partitions)
					return nil
				})
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
				return eachAnswer("topic", args, resps, nil, func(name string, r kadm.DeleteTopicResponse) error {
					switch {
					case r.Err == nil:
						fmt.Fprintf(io.out, "Deleted topic %s.\n", name)
					case ifExists && errors.Is(r.Err, kerr.UnknownTopicOrPartition):
						fmt.Fprintf(io.out, "Topic %s does not exist.\n", name)
					default:
						return brokerError("topic "+name, r.Err, r.ErrMessage)
					}
					return nil
				})
			})
		},
	}
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "no error when the topic does not exist")
	return cmd
}
