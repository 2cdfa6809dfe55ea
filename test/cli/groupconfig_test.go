package cli_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/test/harness"
)

// told joins a group of the consumer protocol, or sends a heartbeat of the member in its
// epoch, and returns how often it is told to be heard of, in milliseconds, and its epoch.
func told(t *testing.T, cl *kgo.Client, group, member string, epoch int32) (interval, next int32) {
	t.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = group, member, epoch
	if epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 60_000, []string{"t"}
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	harness.Eventually(t, "the coordinator answers", func() bool {
		resp, err := req.RequestWith(t.Context(), cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		switch {
		case errors.Is(err, kerr.CoordinatorLoadInProgress), errors.Is(err, kerr.NotCoordinator), errors.Is(err, kerr.CoordinatorNotAvailable):
			return false // the client does not repeat a heartbeat
		case err != nil:
			t.Fatalf("heartbeat of %s in epoch %d: %v", member, epoch, err)
		}
		interval, next = resp.HeartbeatIntervalMillis, resp.MemberEpoch
		return true
	})
	return interval, next
}

func client(t *testing.T, b *harness.Broker) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// TestGroupConfig: the settings of a group are altered, described, listed, refused, in
// force with the next heartbeat, and there after a crash.
func TestGroupConfig(t *testing.T) {
	t.Parallel()
	bounds := []string{
		"group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=5", "group.consumer.session.timeout.ms=1800000",
		"group.consumer.min.session.timeout.ms=1000", "group.consumer.max.session.timeout.ms=1800000", "group.consumer.min.heartbeat.interval.ms=100",
	}
	s := &shell{t, harness.Start(t, bounds...)}
	s.run(done, "", "topics", "create", "t", "--partitions", "2")
	const session, beat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
	of := func(command string, more ...string) []string {
		return append([]string{"config", command, "--group", "g/1"}, more...)
	}

	// A group need not exist to have settings.
	s.prints("", "", of("describe")...)
	s.prints(beat+"  5000     default_config\n"+session+"     1800000  static_broker_config\n", "", of("describe", "--all")...)
	s.prints("The change would be accepted.\n", "", of("alter", "--set", beat+"=6000", "--validate-only")...)
	s.prints("", "", of("describe")...)
	s.prints("Changed.\n", "", of("alter", "--set", beat+"=6000", "--set", session+"=600000")...)
	s.prints(beat+"  6000    group_config\n"+session+"     600000  group_config\n", "", of("describe")...)

	s.fails(failed, "INVALID_CONFIG: "+session+" must be greater than or equal to group.consumer.min.session.timeout.ms, and 999 is not: give at least 1000", "", of("alter", "--set", session+"=999")...)
	s.fails(failed, session+" (6000) must be greater than "+beat+" (6000)", "", of("alter", "--set", session+"=6000")...)
	s.fails(failed, "Unknown group config name: share.session.timeout.ms", "", of("alter", "--set", "share.session.timeout.ms=45000")...)
	s.fails(failed, "Not a number of type INT", "", of("alter", "--set", beat+"=often")...)
	s.fails(usage, "give one of", "", of("describe", "--topic", "t")...)

	// A real member of KIP-848, beside those of which every answer is seen.
	s.member("g/1", "t", kgo.ServerSideBalancer())
	cl := client(t, s.b)
	want := func(what string, got, want int32) {
		t.Helper()
		if got != want {
			t.Errorf("%s: a member is told to be heard of every %d ms, want %d", what, got, want)
		}
	}
	interval, epoch := told(t, cl, "g/1", "m", 0)
	want("joining", interval, 6000)
	interval, _ = told(t, cl, "other", "m", 0)
	want("in another group", interval, 5000)
	s.prints("Changed.\n", "", of("alter", "--set", beat+"=200", "--set", session+"=1000")...)
	interval, _ = told(t, cl, "g/1", "m", epoch)
	want("at the next heartbeat", interval, 200)
	says(t, s.run(done, "", "groups", "describe", "g/1").Stdout, "Configs: "+beat+"=200,"+session+"=1000")
	// It is not heard of any more: its session is the group's, not the half hour of the broker.
	harness.Eventually(t, "the member has gone", func() bool {
		groups, err := kadm.NewClient(cl).DescribeConsumerGroups(t.Context(), "g/1")
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(groups["g/1"].Members, func(m kadm.ConsumerGroupMember) bool { return m.MemberID == "m" })
	})

	s.b.Kill()
	s.b = s.b.Restart(bounds...)
	s.prints(beat+"  200   group_config\n"+session+"     1000  group_config\n", "", of("describe")...)
	cl = client(t, s.b)
	interval, _ = told(t, cl, "g/1", "after", 0)
	want("after a crash", interval, 200)
	listed, err := kadm.NewClient(cl).ListConfigResources(t.Context(), kmsg.ConfigResourceTypeGroupConfig)
	if err != nil || listed.Err != nil || !slices.Equal(listed.Names(), []string{"g/1"}) {
		t.Errorf("listed %+v, %v", listed, err)
	}

	// With bounds that do not allow what is stored, the broker's own settings count.
	s.b.Stop()
	s.b = s.b.Restart()
	says(t, s.b.Log(), "the others count")
	s.prints("", "", of("describe")...)
	interval, _ = told(t, client(t, s.b), "g/1", "narrow", 0)
	want("with narrower bounds", interval, 5000)
	s.prints("Changed.\n", "", of("alter", "--delete", beat, "--delete", session)...)
	s.b.Stop()
	s.b = s.b.Restart(bounds...)
	s.prints("", "", of("describe")...)
}
