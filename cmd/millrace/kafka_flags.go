package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// kafkaFlag adds to an error of a flag that Kafka's tools have what is typed here in its
// place.
func kafkaFlag(cmd *cobra.Command, err error) error {
	var unknown interface{ GetSpecifiedName() string }
	if !errors.As(err, &unknown) {
		return err
	}
	name, path := unknown.GetSpecifiedName(), cmd.CommandPath()
	hint := ""
	switch name {
	case "topic", "group":
		if strings.Contains(cmd.Use, strings.ToUpper(name)) {
			hint = fmt.Sprintf("the %s is an argument: millrace %s", name, usageOf(cmd))
		}
	case "version":
		hint = "it is a command: millrace version"
	case "override":
		hint = "it is a flag of a command: millrace server --override name=value"
	case "property", "reader-property", "formatter-property":
		hint = fmt.Sprintf("each property has a flag of its own, such as --print-key or --parse-key: %s --help", path)
	case "zookeeper", "broker-list":
		hint = "use --bootstrap-server"
	case "producer.config", "consumer.config", "producer-property", "consumer-property", "command-property":
		hint = "use --command-config FILE"
	case "timeout-ms":
		hint = "use --idle-timeout, such as 10s"
	case "files":
		hint = "the files are arguments: millrace " + usageOf(cmd)
	case "print-data-log", "deep-iteration":
		hint = "use --print-records"
	case "entity-type", "entity-name":
		hint = "use --topic, --group, --broker or --broker-defaults"
	case "add-config":
		hint = "use --set name=value"
	case "delete-config":
		hint = "use --delete name"
	default:
		if slices.ContainsFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == name }) {
			hint = fmt.Sprintf("it is a command: %s %s", path, name)
		}
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

// usageOf is how a command is used, without its flags.
func usageOf(cmd *cobra.Command) string {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	_, args, _ := strings.Cut(cmd.Use, " ")
	return path + " " + args
}
