package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// quickGroups is a broker on which a group begins at once.
func quickGroups(t *testing.T) *shell {
	t.Helper()
	return &shell{t, harness.Start(t, "group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=5")}
}

// commit commits offsets for a group without members.
func (s *shell) commit(group, topic string, at ...int64) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.b.Addr))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	var offsets kadm.Offsets
	for p, o := range at {
		offsets.AddOffset(topic, int32(p), o, -1)
	}
	if err := kadm.NewClient(cl).CommitAllOffsets(s.t.Context(), group, offsets); err != nil {
		s.t.Fatal(err)
	}
}

// member joins a group and returns when it has partitions; it leaves with the test.
func (s *shell) member(group, topic string, opts ...kgo.Opt) {
	s.t.Helper()
	has := make(chan struct{}, 10)
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.b.Addr), kgo.ClientID("the-client"), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.HeartbeatInterval(100*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			if len(assigned) > 0 {
				has <- struct{}{}
			}
		}))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(cl.Close)
	select {
	case <-has:
	case <-time.After(time.Minute):
		s.t.Fatal("the member gets no partitions")
	}
}

// fields are the words of each line, so that columns may be as wide as they like.
func fields(text string) (out []string) {
	for line := range strings.Lines(text) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return out
}

func TestGroups(t *testing.T) {
	t.Parallel()
	s := quickGroups(t)
	s.prints("", "", "groups", "list")
	s.prints("[]\n", "", "groups", "list", "--json")
	s.run(done, "", "topics", "create", "orders", "--partitions", "2")
	s.run(done, "a\nb\nc\n", "produce", "orders", "--partition", "0")
	s.run(done, "d\n", "produce", "orders", "--partition", "1")
	s.commit("idle", "orders", 1)
	s.member("busy", "orders")

	s.prints("busy\nidle\n", "", "groups", "list")
	s.prints("idle\n", "", "groups", "list", "--state", "Empty")
	long := fields(s.run(done, "", "groups", "list", "--long").Stdout)
	if len(long) != 3 || long[0] != "GROUP TYPE STATE PROTOCOL COORDINATOR" || long[1] != "busy classic Stable consumer 0" || !strings.HasPrefix(long[2], "idle classic Empty ") {
		t.Errorf("list --long: %q", long)
	}

	out := fields(s.run(done, "", "groups", "describe", "idle").Stdout)
	if want := []string{
		"Group: idle Type: classic State: Empty Assignor: - Coordinator: 0 Members: 0 Lag: 2",
		"TOPIC PARTITION COMMITTED LOG-END LAG MEMBER", "orders 0 1 3 2 -",
	}; fmt.Sprint(out) != fmt.Sprint(want) {
		t.Errorf("describe idle: %q", out)
	}
	var view struct {
		State, Assignor string
		Lag             int64
		Members         []struct {
			ClientID string `json:"client_id"`
			Assigned map[string][]int32
			Topics   []string
		}
		Offsets []struct {
			Partition int32
			Committed int64 `json:"committed_offset"`
			End       int64 `json:"log_end_offset"`
			Lag       int64
			Member    string `json:"member_id"`
		}
	}
	if err := json.Unmarshal([]byte(s.run(done, "", "groups", "describe", "busy", "--json").Stdout), &view); err != nil {
		t.Fatal(err)
	}
	if view.State != "Stable" || len(view.Members) != 1 || view.Members[0].ClientID != "the-client" ||
		fmt.Sprint(view.Members[0].Assigned) != "map[orders:[0 1]]" || len(view.Offsets) != 2 || view.Offsets[0].Member == "" {
		t.Errorf("describe busy: %+v", view)
	}
	says(t, s.run(done, "", "groups", "describe").Stdout, "the-client")
	s.fails(failed, "group nope does not exist", "", "groups", "describe", "nope")

	s.fails(failed, "stop its consumers first", "", "groups", "delete", "busy")
	s.fails(failed, "group nope does not exist", "", "groups", "delete", "nope")
	s.prints("Group nope does not exist.\n", "", "groups", "delete", "nope", "--if-exists")
	s.fails(failed, "the topic", "", "groups", "delete-offsets", "busy", "--topic", "orders:0")
	s.fails(failed, "has committed nothing for topic other", "", "groups", "delete-offsets", "idle", "--topic", "other")
	s.fails(usage, "--topic is missing", "", "groups", "delete-offsets", "idle")
	s.commit("idle", "orders", 1, 1)
	s.prints("Deleted the offset of idle for orders-1.\n", "", "groups", "delete-offsets", "idle", "--topic", "orders:1")
	s.prints("Deleted the offset of idle for orders-0.\n", "", "groups", "delete-offsets", "idle", "--topic", "orders")
	s.commit("idle", "orders", 1)
	s.prints("Deleted group idle.\n", "", "groups", "delete", "idle")
	s.prints("busy\n", "", "groups", "list")
}

func TestResetOffsets(t *testing.T) {
	t.Parallel()
	s := quickGroups(t)
	s.run(done, "", "topics", "create", "t", "--partitions", "2")
	for p, lines := range []string{"a\nb\nc\nd\n", "e\nf\n"} {
		for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
			s.run(done, line+"\n", "produce", "t", "--partition", fmt.Sprint(p), "--timestamp", fmt.Sprint(1_000_000+1000*i))
		}
	}
	s.commit("g", "t", 3, 1)
	// plan runs reset-offsets for group g and returns PARTITION:OLD>NEW for each.
	plan := func(args ...string) (out []string) {
		t.Helper()
		var lines []struct {
			Partition int32
			Old       int64 `json:"old_offset"`
			New       int64 `json:"new_offset"`
		}
		text := s.run(done, "", append([]string{"groups", "reset-offsets", "g", "--json"}, args...)...).Stdout
		if err := json.Unmarshal([]byte(text), &lines); err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			out = append(out, fmt.Sprintf("%d:%d>%d", l.Partition, l.Old, l.New))
		}
		return out
	}
	for _, c := range []struct{ args, want string }{
		{"--topic t --to-earliest", "[0:3>0 1:1>0]"},
		{"--topic t:1 --to-latest", "[1:1>2]"},
		{"--topic t:0,1 --to-current", "[0:3>3 1:1>1]"},
		{"--all-topics --to-offset 2", "[0:3>2 1:1>2]"},
		{"--topic t --to-offset 99", "[0:3>4 1:1>2]"},
		{"--topic t --shift-by -2", "[0:3>1 1:1>0]"},
		{"--topic t --shift-by 1", "[0:3>4 1:1>2]"},
		{"--topic t --to-datetime 1970-01-01T00:16:41.000", "[0:3>1 1:1>1]"},
		{"--topic t --to-datetime 1970-01-01T01:16:41+01:00", "[0:3>1 1:1>1]"},
		{"--topic t --to-datetime 1002001", "[0:3>3 1:1>2]"},
		{"--topic t --by-duration PT1H", "[0:3>4 1:1>2]"},
		{"--topic t --by-duration P40000D", "[0:3>0 1:1>0]"},
	} {
		if got := fmt.Sprint(plan(strings.Fields(c.args)...)); got != c.want {
			t.Errorf("%s: %s, want %s", c.args, got, c.want)
		}
	}
	says(t, s.run(done, "", "groups", "reset-offsets", "g", "--topic", "t", "--to-offset", "99").Stderr, "offset 99 is beyond the end, 4, which is used")
	says(t, s.run(done, "", "groups", "reset-offsets", "g", "--topic", "t", "--to-earliest").Stdout, "Nothing was changed")
	if got := fmt.Sprint(plan("--topic", "t", "--to-current")); got != "[0:3>3 1:1>1]" {
		t.Errorf("the plans have changed the offsets: %s", got)
	}

	// Out as CSV, and in again.
	csv := s.run(done, "", "groups", "reset-offsets", "g", "--topic", "t", "--to-offset", "1", "--export").Stdout
	if csv != "t,0,1\nt,1,1\n" {
		t.Errorf("export: %q", csv)
	}
	file := filepath.Join(t.TempDir(), "plan.csv")
	if err := os.WriteFile(file, []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(plan("--from-file", file, "--execute")); got != "[0:3>1 1:1>1]" {
		t.Errorf("from the file: %s", got)
	}
	if got := fmt.Sprint(plan("--topic", "t", "--to-current")); got != "[0:1>1 1:1>1]" {
		t.Errorf("what was done: %s", got)
	}
	s.run(done, "g,t,0,2\nnew,t,1,1\n", "groups", "reset-offsets", "g", "new", "--from-file", "-", "--execute")
	says(t, s.run(done, "", "groups", "describe", "new").Stdout, "Lag: 1")
	says(t, s.run(done, "", "groups", "reset-offsets", "--all-groups", "--topic", "t", "--to-latest", "--export").Stdout, "g,t,0,4\ng,t,1,2\nnew,t,0,4\nnew,t,1,2\n")
	// What was set is where a consumer goes on.
	s.prints("c\nd\n", "", "consume", "t", "--group", "g", "--exit-at-end", "--max-messages", "2")

	for _, c := range []struct{ args, words string }{
		{"g --to-earliest", "give --topic or --all-topics"},
		{"g --topic t", "give one of --to-current"},
		{"g --topic t --to-latest --to-earliest", "give one of --to-current"},
		{"--topic t --to-latest", "name groups, or give --all-groups"},
		{"g --all-groups --topic t --to-latest", "name groups, or give --all-groups"},
		{"g --topic t --to-latest --execute --dry-run", "exclude each other"},
		{"g --topic t --to-offset -1", "want 0 or more"},
		{"g --topic t:x --to-latest", "is no partition"},
		{"g --topic t:9 --to-latest", "topic t has partitions 0 to 1"},
		{"g --topic t --to-datetime yesterday", "--to-datetime yesterday: want"},
		{"g --topic t --by-duration P", "--by-duration P: want"},
		{"g --topic t --from-file " + file, "leave --topic and --all-topics away"},
		{"g --from-file /nowhere", "--from-file"},
	} {
		s.fails(usage, c.words, "", append([]string{"groups", "reset-offsets"}, strings.Fields(c.args)...)...)
	}
	s.fails(failed, "UNKNOWN_TOPIC_OR_PARTITION", "", "groups", "reset-offsets", "g", "--topic", "missing", "--to-latest")
	s.fails(failed, "nothing is committed, so there is nothing to shift", "", "groups", "reset-offsets", "newer", "--topic", "t", "--shift-by", "1")
	s.fails(usage, "line 2: want TOPIC,PARTITION,OFFSET", "t,0,1\nt,0\n", "groups", "reset-offsets", "g", "--from-file", "-")
	s.fails(usage, "line 1: group other is not among", "other,t,0,1\n", "groups", "reset-offsets", "g", "--from-file", "-")
	s.member("busy", "t")
	s.fails(failed, "group busy is Stable and has 1 members: stop its consumers first", "", "groups", "reset-offsets", "busy", "--topic", "t", "--to-latest", "--execute")
}

// TestConsumeInGroup: what was printed is committed, the next one goes on there, and
// members share.
func TestConsumeInGroup(t *testing.T) {
	t.Parallel()
	s := quickGroups(t)
	s.run(done, "", "topics", "create", "t", "--partitions", "2")
	for p, lines := range []string{"a\nb\nc\n", "d\ne\n"} {
		s.run(done, lines, "produce", "t", "--partition", fmt.Sprint(p))
	}
	lag := func(want string) {
		t.Helper()
		says(t, s.run(done, "", "groups", "describe", "g").Stdout, "Lag: "+want)
	}
	s.prints("", "", "consume", "t", "--group", "from-the-end", "--exit-at-end")
	if got := fields(s.run(done, "", "consume", "t", "--group", "g", "--from-beginning", "--max-messages", "3", "--exit-at-end").Stdout); len(got) != 3 {
		t.Errorf("read %q", got)
	}
	rest := s.run(done, "", "consume", "t", "--group", "g", "--exit-at-end", "--from-beginning").Stdout
	if len(fields(rest)) != 2 {
		t.Errorf("the rest is %q", rest)
	}
	lag("0")
	s.prints("", "", "consume", "t", "--group", "g", "--exit-at-end", "--from-beginning")
	s.prints("", "", "consume", "t", "--group", "g", "--idle-timeout", "100ms")
	s.run(done, "f\n", "produce", "t", "--partition", "1")
	s.prints("f\n", "", "consume", "t", "--group", "g", "--idle-timeout", "1m", "--max-messages", "1")
	lag("0")
	s.run(done, "", "groups", "reset-offsets", "g", "--topic", "t:0", "--to-offset", "1", "--execute")
	s.prints("b\nc\n", "", "consume", "t", "--group", "g", "--exit-at-end")

	s.fails(usage, "--group decides what is read", "", "consume", "t", "--group", "g", "--partition", "1")
	s.fails(failed, "UNKNOWN_TOPIC_OR_PARTITION", "", "consume", "missing", "--group", "g")

	// A member that has all partitions leaves none to another one, until it goes.
	s.member("shared", "t")
	s.run(done, "g\nh\n", "produce", "t", "--partition", "0")
	n := 0
	for n == 0 { // again, where the other one is slow to give partitions away
		n = len(fields(s.run(done, "", "consume", "t", "--group", "shared", "--exit-at-end", "--from-beginning").Stdout))
	}
	if n >= 8 {
		t.Errorf("a member of two has read %d of 8 records", n)
	}
}

// TestGroupsOfConsumerProtocol: groups of KIP-848 are shown and guarded like the others.
func TestGroupsOfConsumerProtocol(t *testing.T) {
	t.Parallel()
	s := quickGroups(t)
	s.run(done, "", "topics", "create", "t", "--partitions", "2")
	s.member("new", "t", kgo.ServerSideBalancer())
	s.prints("new\n", "", "groups", "list", "--type", "consumer")
	s.prints("", "", "groups", "list", "--type", "classic")
	out := s.run(done, "", "groups", "describe", "new").Stdout
	for _, want := range []string{"Type: consumer", "Assignor: uniform", "the-client", "t:0,1"} {
		says(t, out, want)
	}
	s.fails(failed, "stop its consumers first", "", "groups", "reset-offsets", "new", "--topic", "t", "--to-latest", "--execute")
	s.fails(failed, "stop its consumers first", "", "groups", "delete", "new")
}
