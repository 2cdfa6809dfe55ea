// Command unread is a plugin: a retention policy that never takes from a group what it has
// not read. A record goes when it is older than retention.ms and the groups that the
// topic names have committed past it:
//
//	plugin.unread.path=/opt/millrace/plugins/unread
//	retention.unread.groups=billing,archive
//
// A topic uses it with retention.policy=unread, and may have its own
// retention.unread.groups. A group that has committed nothing for a partition has read nothing
// of it, so that a name with a typing mistake keeps everything; so does a topic without
// any names, and retention.ms=-1. retention.bytes is not looked at: a group that stands still
// fills the disk, and wants an alert on its lag. While the offsets of some groups are not
// known (a coordinator is loading) nothing goes.
package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/sdk/plugin"
)

func main() { plugin.Serve(options()...) }

func options() []plugin.Option {
	return []plugin.Option{
		plugin.Program("unread", "1.0.0"),
		plugin.Retention("unread", "keeps what the topic's groups have not read", policy{}, build),
	}
}

const groupsSetting = "retention.unread.groups"

// policy is the settings, and has no other state.
type policy struct {
	Groups []string `setting:"retention.unread.groups" scope:"topic" doc:"Groups, by commas, that must have read a record before the policy unread lets it go, and then only after retention.ms. Without one everything is kept."`
}

// Validate is called when the broker starts, so that a mistake shows there.
func (p policy) Validate() error {
	if len(p.Groups) > 1 && slices.ContainsFunc(p.Groups, func(g string) bool { return strings.TrimSpace(g) == "" }) {
		return errors.New(groupsSetting + ": the name of a group is missing between two commas")
	}
	return nil
}

func build(_ context.Context, _ core.Env, p policy) (policy, error) { return p, nil }

// ReadsCommitted implements plugin.CommitReader: the logs come with LogView.Committed.
func (policy) ReadsCommitted() {}

// Decide implements core.Retention.
func (p policy) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	var out []core.Decision
	for i := range logs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v := &logs[i]
		if !v.CommittedComplete || v.RetentionTime < 0 || !deletes(v.Config) {
			continue
		}
		if start := min(p.read(v), expired(v), v.HighWatermark); start > v.Start {
			out = append(out, core.Decision{TopicPartition: v.TopicPartition, Start: start, Reason: "read by " + groupsSetting})
		}
	}
	return out, nil
}

// read is the offset below which all groups that count have read.
func (p policy) read(v *core.LogView) int64 {
	groups := p.Groups
	if text, ok := v.Config[groupsSetting]; ok {
		groups = strings.Split(text, ",")
	}
	low, named := v.End, false
	for _, g := range groups {
		if g = strings.TrimSpace(g); g == "" {
			continue
		}
		offset, ok := v.Committed[g]
		if !ok || offset < 0 {
			return v.Start
		}
		low, named = min(low, offset), true
	}
	if !named {
		return v.Start
	}
	return low
}

// expired is the offset after the last of the segments, from the oldest on, in which all
// records are older than retention.ms.
func expired(v *core.LogView) int64 {
	before := v.Now.Add(-v.RetentionTime).UnixMilli()
	start := v.Start
	for i := range v.Segments {
		s := &v.Segments[i]
		if s.End <= s.Base { // nothing has been written to it
			continue
		}
		newest := s.MaxTimestamp
		if newest < 0 { // format 0 has no timestamps
			newest = s.Modified.UnixMilli()
			if s.Modified.IsZero() {
				break
			}
		}
		if newest >= before {
			break
		}
		start = s.End
	}
	return start
}

// deletes reads cleanup.policy, a list whose default is delete.
func deletes(config map[string]string) bool {
	list, ok := config["cleanup.policy"]
	return !ok || strings.Contains(list, "delete")
}
