package api

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/replica"
)

// administered fills in what the administrative keys describe: the default
// settings of a broker that was given two more, two directories, and partitions.
func administered(tb testing.TB, o *Options) {
	tb.Helper()
	table, err := config.NewTable()
	if err != nil {
		tb.Fatal(err)
	}
	static, err := config.Load(table, config.Sources{Overrides: []string{"broker.id=1", "log.retention.hours=2", "listener.name.plaintext.ssl.key.password=secret"}})
	if err != nil {
		tb.Fatal(err)
	}
	dynamic, err := config.NewDynamic(static)
	if err != nil {
		tb.Fatal(err)
	}
	o.Configs = dynamic
	o.Dirs = fakeDirs{
		{Path: "/one", Total: 1000, Usable: 400},
		{Path: "/two", Total: 9, Usable: 9, Err: core.ErrStorage},
		{Path: "/three", Total: -1, Usable: -1},
	}
	o.Hosted = fakeHosted{
		{TopicPartition: core.TopicPartition{Topic: "a", Partition: 0}, Dir: "/one", Bytes: 10, End: 5, HighWatermark: 3},
		{TopicPartition: core.TopicPartition{Topic: "a", Partition: 1}, Dir: "/three", Bytes: 20, End: 5, HighWatermark: 5, Future: &replica.FutureInfo{Dir: "/one", Bytes: 12, End: 3}},
		{TopicPartition: core.TopicPartition{Topic: "a", Partition: 2}, Dir: "/one", Bytes: 30, End: 5, HighWatermark: 9},
		{TopicPartition: core.TopicPartition{Topic: "b", Partition: 0}, Dir: "/one", Bytes: 40},
		{TopicPartition: core.TopicPartition{Topic: "b", Partition: 1}, Dir: "/two", Bytes: 50},
	}
}

type fakeDirs []core.Dir

func (d fakeDirs) Dirs(context.Context) ([]core.Dir, error) { return d, nil }

type fakeHosted []replica.PartitionInfo

func (h fakeHosted) Partitions() []replica.PartitionInfo { return h }

// AlterDirs knows the directories by their errors.
func (h fakeHosted) AlterDirs(_ context.Context, wishes []replica.DirWish) []error {
	out := make([]error, len(wishes))
	for i, w := range wishes {
		switch {
		case w.Dir == "/two":
			out[i] = core.ErrStorage
		case w.Dir != "/one" && w.Dir != "/three":
			out[i] = core.Failf(kerr.LogDirNotFound.Code, "no %s", w.Dir)
		case w.Topic != "a" && w.Topic != "b":
			out[i] = core.Failf(kerr.ReplicaNotAvailable.Code, "no %s", w.Topic)
		}
	}
	return out
}

// fakeAdmin does what it is asked and writes it down. Topics called "fail-CODE" are
// refused.
type fakeAdmin struct {
	said  []string
	alter []controller.ConfigAlteration
	new   []controller.NewTopic
}

func refusal(name string) error {
	code := int16(0)
	if n, _ := fmt.Sscanf(name, "fail-%d", &code); n == 1 {
		return core.Failf(code, "refused")
	}
	return nil
}

func (a *fakeAdmin) CreateTopics(_ context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult {
	out := make([]controller.TopicResult, len(topics))
	for i, t := range topics {
		a.new = append(a.new, t)
		a.said = append(a.said, fmt.Sprint("create ", t.Name, " ", t.Partitions, " ", t.ReplicationFactor, " ", t.Assignment, " ", validateOnly))
		out[i] = controller.TopicResult{Name: t.Name, ID: topicID(9), Partitions: 7, ReplicationFactor: 2, Configs: t.Configs, Err: refusal(t.Name)}
	}
	return out
}

func (a *fakeAdmin) DeleteTopics(_ context.Context, refs []controller.TopicRef) []controller.TopicResult {
	out := make([]controller.TopicResult, len(refs))
	for i, r := range refs {
		a.said = append(a.said, fmt.Sprint("delete ", r.Name, " ", r.ID[0]))
		out[i] = controller.TopicResult{Name: r.Name, ID: topicID(1), Err: refusal(r.Name)}
	}
	return out
}

func (a *fakeAdmin) CreatePartitions(_ context.Context, topics []controller.NewPartitions, validateOnly bool) []controller.TopicResult {
	out := make([]controller.TopicResult, len(topics))
	for i, t := range topics {
		a.said = append(a.said, fmt.Sprint("grow ", t.Topic, " ", t.Count, " ", t.Assignment, " ", validateOnly))
		out[i] = controller.TopicResult{Name: t.Topic, Err: refusal(t.Topic)}
	}
	return out
}

func (a *fakeAdmin) AlterConfigs(_ context.Context, all []controller.ConfigAlteration, validateOnly bool) []error {
	out := make([]error, len(all))
	for i, c := range all {
		a.alter = append(a.alter, c)
		text := fmt.Sprint("alter ", c.Type, " ", c.Name, " ", c.Replace, " ", validateOnly)
		for _, ch := range c.Changes {
			v := "null"
			if ch.Value != nil {
				v = *ch.Value
			}
			text += fmt.Sprint(" ", ch.Name, " ", ch.Op, " ", v)
		}
		a.said = append(a.said, text)
		out[i] = refusal(c.Name)
	}
	return out
}

// said checks and forgets what the controller was asked.
func (a *fakeAdmin) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if !slices.Equal(a.said, want) {
		t.Errorf("%s: the controller was asked %q, want %q", what, a.said, want)
	}
	a.said = nil
}

// rights allows nothing but what it lists: OPERATION RESOURCE NAME.
type rights map[string]bool

func (r rights) Allowed(_ context.Context, a Action) bool {
	return r[fmt.Sprint(a.Operation, " ", a.Resource, " ", a.Name)]
}

func grant(grants ...string) rights {
	r := rights{}
	for _, g := range grants {
		r[g] = true
	}
	return r
}

// may is one right, as rights knows it.
func may(op Operation, resource Resource, name string) string {
	return fmt.Sprint(op, " ", resource, " ", name)
}

// connectAdmin opens a session with a fake controller behind it.
func connectAdmin(t *testing.T, change ...func(f *fakeCluster)) (*session, *fakeAdmin) {
	t.Helper()
	f := newCluster(t)
	a := &fakeAdmin{}
	f.options.Admin = a
	for _, ch := range change {
		ch(f)
	}
	return f.connect(t), a
}

func withRights(grants ...string) func(f *fakeCluster) {
	return func(f *fakeCluster) { f.options.Authorizer = grant(grants...) }
}

func orNull(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}
