package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ownSettings asks what is set for topics or groups themselves, by the name of each; one
// of which that is not known is left out. Groups need not exist, and have no settings
// where the brokers know of no such settings: Kafka's do from 4.0 on.
func ownSettings(ctx context.Context, cl *kgo.Client, of kmsg.ConfigResourceType, names []string) (map[string]map[string]string, error) {
	// Not kadm's call, which forgets all topics where it may not see one.
	answers, err := describeSettings(ctx, cl, of, names...)
	if err != nil {
		return nil, err
	}
	kind, source := "settings of topic", kmsg.ConfigSourceDynamicTopicConfig
	if of == kmsg.ConfigResourceTypeGroupConfig {
		kind, source = "settings of group", kmsg.ConfigSourceGroupConfig
	}
	set := map[string]map[string]string{}
	err = eachAnswer(kind, names, answers, nil, func(name string, r kmsg.DescribeConfigsResponseResource) error {
		err := kerr.ErrorForCode(r.ErrorCode)
		unheard := of == kmsg.ConfigResourceTypeGroupConfig && errors.Is(err, kerr.InvalidRequest)
		if err != nil && !unheard {
			return brokerError(kind+" "+name, err, deref(r.ErrorMessage))
		}
		set[name] = map[string]string{}
		for _, c := range r.Configs {
			if c.Source == source {
				set[name][c.Name] = deref(c.Value)
			}
		}
		return nil
	})
	return set, err
}

// describeSettings asks for all settings of topics or groups, by the name of each.
func describeSettings(ctx context.Context, cl *kgo.Client, of kmsg.ConfigResourceType, names ...string) (map[string]kmsg.DescribeConfigsResponseResource, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range names {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = of, name
		req.Resources = append(req.Resources, r)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("describe settings: %w", err)
	}
	answers := map[string]kmsg.DescribeConfigsResponseResource{}
	for _, r := range resp.Resources {
		answers[r.ResourceName] = r
	}
	return answers, nil
}

// describeGroupConfigs is for groups what kadm has for topics and brokers.
func describeGroupConfigs(ctx context.Context, cl *kgo.Client, group string) (kadm.ResourceConfigs, error) {
	answers, err := describeSettings(ctx, cl, kmsg.ConfigResourceTypeGroupConfig, group)
	if err != nil {
		return nil, err
	}
	var all kadm.ResourceConfigs
	for _, r := range answers {
		rc := kadm.ResourceConfig{Name: r.ResourceName, Err: kerr.ErrorForCode(r.ErrorCode), ErrMessage: deref(r.ErrorMessage)}
		for _, c := range r.Configs {
			rc.Configs = append(rc.Configs, kadm.Config{Key: c.Name, Value: c.Value, Sensitive: c.IsSensitive, Source: c.Source})
		}
		all = append(all, rc)
	}
	return all, nil
}

// alterGroupConfigs changes settings of a group, or only checks the change.
func alterGroupConfigs(ctx context.Context, cl *kgo.Client, changes []kadm.AlterConfig, validate bool, group string) (kadm.AlterConfigsResponses, error) {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = validate
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for _, c := range changes {
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Op, rc.Value = c.Name, kmsg.IncrementalAlterConfigOp(c.Op), c.Value
		r.Configs = append(r.Configs, rc)
	}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("change the settings of a group: %w", err)
	}
	var all kadm.AlterConfigsResponses
	for _, r := range resp.Resources {
		all = append(all, kadm.AlterConfigsResponse{Name: r.ResourceName, Err: kerr.ErrorForCode(r.ErrorCode), ErrMessage: deref(r.ErrorMessage)})
	}
	return all, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
