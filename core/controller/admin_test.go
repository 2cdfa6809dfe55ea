package controller_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/tree"
)

func wantCode(t *testing.T, what string, err error, want *kerr.Error) {
	t.Helper()
	code, message := core.KafkaCode(err)
	wanted := int16(0)
	if want != nil {
		wanted = want.Code
	}
	if code != wanted {
		t.Errorf("%s: code %d (%s, %v), want %d", what, code, message, err, wanted)
	}
}

func TestCreateTopicsRefuses(t *testing.T) {
	in(t, 2, func(t *testing.T, c *cluster) {
		b := c.brokers[0]
		create(t, b, controller.NewTopic{Name: "a.b", Partitions: 1, ReplicationFactor: 1})
		for _, x := range []struct {
			topic controller.NewTopic
			want  *kerr.Error
		}{
			{controller.NewTopic{Name: "a.b", Partitions: 1, ReplicationFactor: 1}, kerr.TopicAlreadyExists},
			{controller.NewTopic{Name: "a_b", Partitions: 1, ReplicationFactor: 1}, kerr.InvalidTopicException},
			{controller.NewTopic{Name: "a b", Partitions: 1, ReplicationFactor: 1}, kerr.InvalidTopicException},
			{controller.NewTopic{Name: strings.Repeat("x", 250), Partitions: 1, ReplicationFactor: 1}, kerr.InvalidTopicException},
			{controller.NewTopic{Name: "n", Partitions: 0, ReplicationFactor: 1}, kerr.InvalidPartitions},
			{controller.NewTopic{Name: "n", Partitions: -2, ReplicationFactor: 1}, kerr.InvalidPartitions},
			{controller.NewTopic{Name: "n", Partitions: 1 << 30, ReplicationFactor: 1}, kerr.InvalidPartitions},
			{controller.NewTopic{Name: "n", Partitions: 1, ReplicationFactor: 0}, kerr.InvalidReplicationFactor},
			{controller.NewTopic{Name: "n", Partitions: 1, ReplicationFactor: 3}, kerr.InvalidReplicationFactor},
			{controller.NewTopic{Name: "n", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"no.such": "1"}}, kerr.InvalidConfig},
			{controller.NewTopic{Name: "n", Partitions: 1, ReplicationFactor: -1, Assignment: [][]int32{{0}}}, kerr.InvalidRequest},
			{controller.NewTopic{Name: "n", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{0}, {}}}, kerr.InvalidReplicaAssignment},
			{controller.NewTopic{Name: "n", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{0, 0}}}, kerr.InvalidReplicaAssignment},
			{controller.NewTopic{Name: "n", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{7}}}, kerr.InvalidReplicaAssignment},
			{controller.NewTopic{Name: "n", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{0}, {0, 1}}}, kerr.InvalidReplicaAssignment},
		} {
			for _, validateOnly := range []bool{true, false} {
				r := b.ctl.CreateTopics(within(t, time.Minute), []controller.NewTopic{x.topic}, validateOnly)[0]
				wantCode(t, x.topic.Name, r.Err, x.want)
			}
		}
		ok := controller.NewTopic{Name: "ok", Partitions: -1, ReplicationFactor: -1}
		rs := b.ctl.CreateTopics(within(t, time.Minute), []controller.NewTopic{ok, {Name: "twice"}, {Name: "twice"}}, true)
		wantCode(t, "validated", rs[0].Err, nil)
		wantCode(t, "twice", rs[1].Err, kerr.InvalidRequest)
		wantCode(t, "twice", rs[2].Err, kerr.InvalidRequest)
		if rs[0].Partitions != 1 || rs[0].ReplicationFactor != 1 || !rs[0].ID.IsZero() {
			t.Errorf("validation answers %+v", rs[0])
		}
		if n := b.meta.Current().NumTopics(); n != 1 {
			t.Errorf("%d topics", n)
		}
		wantCode(t, "not the controller", c.brokers[1].ctl.CreateTopics(within(t, time.Minute), []controller.NewTopic{ok}, false)[0].Err, kerr.NotController)
	})
}

func TestCreateTimesOut(t *testing.T) {
	in(t, 1, func(t *testing.T, c *cluster) {
		b := c.brokers[0]
		b.set(func() { b.down = true }) // it does not hear of the topic
		n := []controller.NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 1}}
		wantCode(t, "create", b.ctl.CreateTopics(within(t, time.Second), n, false)[0].Err, kerr.RequestTimedOut)
		b.set(func() { b.down = false })
		time.Sleep(time.Minute)
		if _, ok := b.meta.Current().Topic("t"); !ok {
			t.Error("the topic never came")
		}
	})
}

func TestPartitionsAndDeletion(t *testing.T) {
	in(t, 2, func(t *testing.T, c *cluster) {
		b := c.brokers[0]
		r := create(t, b, controller.NewTopic{Name: "t", Partitions: 2, ReplicationFactor: 1})
		grow := func(what string, want *kerr.Error, n ...controller.NewPartitions) {
			t.Helper()
			wantCode(t, what, b.ctl.CreatePartitions(within(t, time.Minute), n, false)[0].Err, want)
		}
		grow("unknown", kerr.UnknownTopicOrPartition, controller.NewPartitions{Topic: "x", Count: 2})
		grow("fewer", kerr.InvalidPartitions, controller.NewPartitions{Topic: "t", Count: 1})
		grow("as many", kerr.InvalidPartitions, controller.NewPartitions{Topic: "t", Count: 2})
		grow("wrong number", kerr.InvalidReplicaAssignment, controller.NewPartitions{Topic: "t", Count: 3, Assignment: [][]int32{{0}, {1}}})
		grow("wrong factor", kerr.InvalidReplicaAssignment, controller.NewPartitions{Topic: "t", Count: 3, Assignment: [][]int32{{0, 1}}})
		grow("twice", kerr.InvalidRequest, controller.NewPartitions{Topic: "t", Count: 3}, controller.NewPartitions{Topic: "t", Count: 4})
		grow("by hand", nil, controller.NewPartitions{Topic: "t", Count: 3, Assignment: [][]int32{{1}}})
		grow("by itself", nil, controller.NewPartitions{Topic: "t", Count: 5})
		got, _ := b.meta.Current().Topic("t")
		if len(got.Partitions) != 5 || !cmp.Equal(got.Partitions[2].Replicas, []int32{1}) {
			t.Errorf("the topic is %+v", got)
		}

		remove := func(what string, want *kerr.Error, refs ...controller.TopicRef) {
			t.Helper()
			wantCode(t, what, b.ctl.DeleteTopics(within(t, time.Minute), refs)[0].Err, want)
		}
		remove("unknown name", kerr.UnknownTopicOrPartition, controller.TopicRef{Name: "x"})
		remove("unknown id", kerr.UnknownTopicID, controller.TopicRef{ID: core.TopicID{1}})
		remove("twice", kerr.InvalidRequest, controller.TopicRef{Name: "t"}, controller.TopicRef{Name: "t"})
		c.set(func(s *controller.Settings) { s.DeleteTopics = false })
		remove("disabled", kerr.TopicDeletionDisabled, controller.TopicRef{Name: "t"})
		c.set(func(s *controller.Settings) { s.DeleteTopics = true })
		wantCode(t, "not the controller", c.brokers[1].ctl.DeleteTopics(within(t, time.Minute), []controller.TopicRef{{Name: "t"}})[0].Err, kerr.NotController)
		remove("by id", nil, controller.TopicRef{ID: r.ID})
		if n := get(c.brokers[1], func() int { return len(c.brokers[1].parts) }); n != 0 {
			t.Errorf("broker 1 still holds %d", n)
		}
	})
}

func TestAlterConfigs(t *testing.T) {
	in(t, 2, func(t *testing.T, c *cluster) {
		create(t, c.brokers[0], controller.NewTopic{Name: "t", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"old": "1"}})
		other := c.brokers[1] // any broker alters
		set := func(name, value string) controller.ConfigChange {
			return controller.ConfigChange{Name: name, Value: &value}
		}
		alter := func(what string, want *kerr.Error, a ...controller.ConfigAlteration) {
			t.Helper()
			wantCode(t, what, other.ctl.AlterConfigs(within(t, time.Minute), a, false)[0], want)
		}
		topic := func(changes ...controller.ConfigChange) controller.ConfigAlteration {
			return controller.ConfigAlteration{Type: controller.TopicResource, Name: "t", Changes: changes}
		}
		alter("set", nil, topic(set("retention.ms", "7")))
		if got := get(other, func() map[string]string { return other.configs["topics/t"] }); !cmp.Equal(got, map[string]string{"old": "1", "retention.ms": "7"}) {
			t.Errorf("right after the call the broker has %v", got)
		}
		replace := topic(set("a", "b"))
		replace.Replace = true
		alter("replace", nil, replace)
		synctest.Wait()
		if got := get(c.brokers[0], func() map[string]string { return c.brokers[0].configs["topics/t"] }); !cmp.Equal(got, map[string]string{"a": "b"}) {
			t.Errorf("the other broker has %v", got)
		}
		alter("unknown setting", kerr.InvalidConfig, topic(set("no.such", "")))
		alter("unknown topic", kerr.UnknownTopicOrPartition, controller.ConfigAlteration{Type: controller.TopicResource, Name: "x"})
		alter("bad topic", kerr.InvalidTopicException, controller.ConfigAlteration{Type: controller.TopicResource, Name: "a/b"})
		alter("unknown type", kerr.InvalidRequest, controller.ConfigAlteration{Type: 16})
		alter("another broker", kerr.InvalidRequest, controller.ConfigAlteration{Type: controller.BrokerResource, Name: "0"})
		alter("twice", kerr.InvalidRequest, topic(), topic())
		alter("own broker", nil, controller.ConfigAlteration{Type: controller.BrokerResource, Name: "1", Changes: []controller.ConfigChange{set("x", "1")}})
		alter("all brokers", nil, controller.ConfigAlteration{Type: controller.BrokerResource, Changes: []controller.ConfigChange{set("x", "2")}})
		synctest.Wait()
		for entity, want := range map[string]string{"brokers/1": "1", "brokers/<default>": "2"} {
			if got := get(other, func() string { return other.configs[entity]["x"] }); got != want {
				t.Errorf("%s has x=%s", entity, got)
			}
		}

		// The notifications go after a while.
		tool := c.session()
		defer closing(t, tool)
		names, _, err := tool.Children(context.Background(), tree.ConfigChangesPath)
		if err != nil || len(names) == 0 {
			t.Errorf("changes are %v, %v", names, err)
		}
		time.Sleep(20 * time.Minute)
		if names, _, err = tool.Children(context.Background(), tree.ConfigChangesPath); err != nil || len(names) > 0 {
			t.Errorf("after twenty minutes changes are %v, %v", names, err)
		}

		// CMAK writes the old form; a broken notification or configuration does no harm.
		for _, op := range []core.Op{
			core.CreateSequential(tree.ConfigChangePrefix, []byte(`{"version":9}`)),
			core.Set("/config/topics/t", []byte(`{"version":1,"config":{"cmak":"1"}}`), core.AnyVersion),
			core.CreateSequential(tree.ConfigChangePrefix, []byte(`{"version":1,"entity_type":"topics","entity_name":"t"}`)),
			core.Create("/config/clients/c", []byte(`broken`)),
			core.CreateSequential(tree.ConfigChangePrefix, []byte(`{"version":2,"entity_path":"clients/c"}`)),
		} {
			if _, err := tool.Commit(context.Background(), op); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if got := get(other, func() string { return other.configs["topics/t"]["cmak"] }); got != "1" {
			t.Error("a change by another tool was not heard")
		}

		// A broker that starts later has everything at once.
		c.stop(1)
		late := c.start(1)
		if err := late.feed.Loaded(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := get(late, func() string { return late.configs["topics/t"]["cmak"] }); got != "1" {
			t.Error("a broker starts without what was configured")
		}
	})
}

func TestFailedDisk(t *testing.T) {
	in(t, 2, func(t *testing.T, c *cluster) {
		tp := core.TopicPartition{Topic: "t"}
		c.brokers[0].set(func() { c.brokers[0].storage[tp] = kerr.KafkaStorageError.Code })
		create(t, c.brokers[0], controller.NewTopic{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignment: [][]int32{{0, 1}}})
		synctest.Wait()
		got, _ := c.brokers[1].meta.Current().Topic("t")
		if p := got.Partitions[0]; p.Leader != 1 || !cmp.Equal(p.ISR, []int32{1}) || !cmp.Equal(p.Offline, []int32{0}) {
			t.Errorf("with a failed disk the partition is %+v", p)
		}
	})
}

// A controller that does not know yet that it is none any more cannot write.
func TestStaleControllerIsFenced(t *testing.T) {
	in(t, 2, func(t *testing.T, c *cluster) {
		tool := c.session()
		defer closing(t, tool)
		// The epoch moves on behind the back of broker 0: its office is still its own.
		if _, err := tool.Commit(context.Background(), core.Set(tree.ControllerEpochPath, tree.EncodeEpoch(9), core.AnyVersion)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b := c.brokers[0]
		if _, leading := b.ctl.Leading(); !leading {
			t.Fatal("broker 0 is not the controller")
		}
		n := []controller.NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 1}}
		wantCode(t, "create", b.ctl.CreateTopics(within(t, time.Minute), n, false)[0].Err, kerr.NotController)
		if _, err := tool.Get(context.Background(), tree.TopicPath("t")); err == nil {
			t.Error("a stale controller has created a topic")
		}
		synctest.Wait()
		if epoch, leading := c.leader().ctl.Leading(); !leading || epoch != 10 {
			t.Errorf("the next controller is in epoch %d, %t", epoch, leading)
		}
	})
}
