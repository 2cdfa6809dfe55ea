package group_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// listed are the groups of a ListGroups request as "id type state protocol type".
func (n *node) listed(states, types []string) (out []string) {
	n.t.Helper()
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter, req.TypesFilter = states, types
	resp := kmsg.NewPtrListGroupsResponse()
	if err := n.ListGroups(n.t.Context(), req, resp); err != nil || resp.ErrorCode != 0 {
		n.t.Fatalf("list: code %d, %v", resp.ErrorCode, err)
	}
	for _, g := range resp.Groups {
		out = append(out, g.Group+" "+g.GroupType+" "+g.GroupState+" "+g.ProtocolType)
	}
	slices.Sort(out)
	return out
}

// deleteOffsets is OffsetDelete; it answers the group's code or those of the partitions.
func (n *node) deleteOffsets(id string, what ...at) (code int16, codes []int16) {
	n.t.Helper()
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = id
	for _, a := range what {
		req.Topics = append(req.Topics, kmsg.OffsetDeleteRequestTopic{
			Topic: a.topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: a.partition}},
		})
	}
	resp := kmsg.NewPtrOffsetDeleteResponse()
	if err := n.DeleteOffsets(n.t.Context(), req, resp); err != nil {
		n.t.Fatal(err)
	}
	for _, t := range resp.Topics {
		codes = append(codes, t.Partitions[0].ErrorCode)
	}
	return resp.ErrorCode, codes
}

func TestListGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.commit("offsets", at{"a", 0, 1})
		m := n.join("members", "", "a")
		n.sync("members", m)
		n.sync("left", n.join("left", "", "a"))
		n.leave("left", n.DescribeGroup(t.Context(), "left").Members[0].MemberID)
		check := func() {
			t.Helper()
			all := []string{"left classic Empty consumer", "members classic Stable consumer", "offsets classic Empty "}
			for _, c := range []struct{ states, types, want []string }{
				{nil, nil, all},
				{[]string{"stable"}, nil, all[1:2]},
				{[]string{" STABLE\t"}, nil, all[1:2]}, // Kafka trims states, and not types
				{nil, []string{" classic"}, nil},
				{nil, []string{"Classic", "share"}, all},
				{[]string{"Empty", "Dead"}, []string{"CLASSIC"}, []string{all[0], all[2]}},
				{nil, []string{"consumer"}, nil},
				{[]string{"no such state"}, nil, nil},
			} {
				if got := n.listed(c.states, c.types); !slices.Equal(got, c.want) {
					t.Errorf("states %v, types %v: %q, want %q", c.states, c.types, got, c.want)
				}
			}
			for id, want := range map[string]string{"offsets": "Empty", "members": "Stable", "none": "Dead"} {
				if got := n.stateOf(id); got != want {
					t.Errorf("%s is %s, want %s", id, got, want)
				}
			}
		}
		check()
		n.restart()
		check()
	})
}

// TestDescribeMissing: what is no classic group is Dead, and why.
func TestDescribeMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 1})
		n.member("modern", "m", "a", 1)
		for id, want := range map[string]string{"modern": "Group modern is not a classic group.", "none": "Group none not found."} {
			d := n.DescribeGroup(t.Context(), id)
			if d.State != "Dead" || d.ErrorCode != kerr.GroupIDNotFound.Code || d.ErrorMessage == nil || *d.ErrorMessage != want {
				t.Errorf("%s: %+v", id, d)
			}
		}
		n.commit("", at{"a", 0, 1})
		for id, want := range map[string]*kerr.Error{"": kerr.InvalidGroupID, "none": kerr.GroupIDNotFound} {
			if got := n.ConsumerGroupDescribe(t.Context(), id).ErrorCode; got != want.Code {
				t.Errorf("%q is described with %v", id, kerr.ErrorForCode(got))
			}
		}
	})
}

func TestDeleteGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		deleted := func(id string, want *kerr.Error) {
			t.Helper()
			code := int16(0)
			if want != nil {
				code = want.Code
			}
			if got := n.DeleteGroup(t.Context(), id); got != code {
				t.Errorf("delete %s: %v, want %v", id, kerr.ErrorForCode(got), want)
			}
		}
		deleted("none", kerr.GroupIDNotFound)
		n.commit("offsets", at{"a", 0, 1}, at{"a", 1, 1})
		deleted("offsets", nil)
		deleted("offsets", kerr.GroupIDNotFound)
		m := n.join("members", "", "a")
		n.sync("members", m)
		req := commitRequest("members", at{"a", 0, 1})
		req.MemberID, req.Generation = m.MemberID, m.Generation
		codesAre(t, "commit", n.send(req), nil)
		deleted("members", kerr.NonEmptyGroup)
		n.leave("members", m.MemberID)
		n.expect("members", at{"a", 0, 1})
		deleted("members", nil)
		for range 2 {
			n.expect("offsets")
			n.expect("members")
			if got := n.listed(nil, nil); len(got) != 0 {
				t.Errorf("left: %q", got)
			}
			n.restart()
		}
		if again := n.join("members", "", "a"); again.Generation != 1 {
			t.Errorf("generation %d in a new group", again.Generation)
		}
	})
}

func TestDeleteOffsets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		if code, _ := n.deleteOffsets("none", at{"a", 0, 0}); code != kerr.GroupIDNotFound.Code {
			t.Errorf("no group: %v", kerr.ErrorForCode(code))
		}
		n.commit("g", at{"a", 0, 1}, at{"a", 1, 1}, at{"b", 0, 1})
		_, codes := n.deleteOffsets("g", at{"a", 0, 0}, at{"a", 0, 0}, at{"a", 9, 0}, at{"z", 0, 0})
		codesAre(t, "group without members", codes, nil, nil, nil, nil)
		n.expect("g", at{"a", 1, 1}, at{"b", 0, 1})
		m := n.join("g", "", "b")
		n.sync("g", m)
		_, codes = n.deleteOffsets("g", at{"a", 1, 0}, at{"b", 0, 0})
		codesAre(t, "consumers of b", codes, nil, kerr.GroupSubscribedToTopic)
		n.expect("g", at{"b", 0, 1})
		n.restart()
		n.expect("g", at{"b", 0, 1})

		connect := joinRequest("c", "", "b")
		connect.ProtocolType = "connect"
		if got := n.tryJoin(connect).ErrorCode; got != 0 {
			t.Fatal(kerr.ErrorForCode(got))
		}
		if code, _ := n.deleteOffsets("c", at{"a", 0, 0}); code != kerr.NonEmptyGroup.Code {
			t.Errorf("members that are no consumers: %v", kerr.ErrorForCode(code))
		}
	})
}

func TestTopicsDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		for _, id := range []string{"g", "h", "i", "j", "k"} {
			n.commit(id, at{"a", 0, 1}, at{"b", 0, 2}, at{"c", 5, 3})
		}
		n.commit("only", at{"b", 0, 1})
		n.TopicsDeleted([]string{"b", "c"})
		n.TopicsDeleted([]string{"never"})
		for range 2 {
			for _, id := range []string{"g", "h", "i", "j", "k"} {
				n.expect(id, at{"a", 0, 1})
			}
			n.expect("only")
			n.restart()
		}
	})
}

// TestExpiry goes through Kafka's rules (KIP-211).
func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.settings.Retention = time.Hour })
		defer n.stop()
		known := map[string]int{"a": 2, "read": 1, "old": 1}
		n.topics(known)
		soon := n.settings.Retention/2 + n.settings.RetentionCheck // twice: more than the retention
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		beat := func(m *kmsg.JoinGroupResponse, d time.Duration) {
			t.Helper()
			for range int(d / (20 * time.Second)) {
				pass(20 * time.Second)
				if got := n.heartbeat("members", m.MemberID, m.Generation); got != 0 {
					t.Fatal(kerr.ErrorForCode(got))
				}
			}
		}
		commit := func(m *kmsg.JoinGroupResponse, what ...at) {
			t.Helper()
			req := commitRequest("members", what...)
			req.MemberID, req.Generation = m.MemberID, m.Generation
			for _, code := range n.send(req) {
				if code != 0 {
					t.Fatal(kerr.ErrorForCode(code))
				}
			}
		}
		n.commit("offsets", at{"a", 0, 1}, at{"a", 1, 1})
		m := n.join("members", "", "read")
		n.sync("members", m)
		commit(m, at{"read", 0, 1}, at{"old", 0, 1})
		beat(m, soon)
		n.commit("offsets", at{"a", 0, 2})
		beat(m, soon)
		n.expect("offsets", at{"a", 0, 2})
		n.expect("members", at{"read", 0, 1}) // nobody reads "old"
		pass(0)
		n.leave("members", m.MemberID)
		pass(soon)
		n.expect("members", at{"read", 0, 1}) // since it is empty, not since the commit
		n.restart()
		n.topics(known)
		n.expect("members", at{"read", 0, 1})
		pass(soon)
		n.expect("members")
		n.expect("offsets")
		if got := n.Stats(); len(got.Groups) != 0 || got.Offsets != 0 {
			t.Errorf("left: %+v", got)
		}
		n.restart()
		n.topics(known)
		if got := n.listed(nil, nil); len(got) != 0 {
			t.Errorf("left after a restart: %q", got)
		}
	})
}

// TestEmptyGroupGoes: a group that was joined and left, without offsets, is forgotten
// at the next look.
func TestEmptyGroupGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		m := n.join("g", "", "a")
		n.sync("g", m)
		n.leave("g", m.MemberID)
		if got := n.stateOf("g"); got != "Empty" {
			t.Errorf("state %s", got)
		}
		time.Sleep(n.settings.RetentionCheck)
		synctest.Wait()
		if got := n.stateOf("g"); got != "Dead" {
			t.Errorf("state %s", got)
		}
		n.restart()
		if got := n.stateOf("g"); got != "Dead" {
			t.Errorf("state %s after a restart", got)
		}
	})
}
