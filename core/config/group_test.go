package config

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
)

// The settings are those of GroupConfig in Kafka 4.2 for consumer groups.
func TestGroupSettingsAreKafkas(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	var got []string
	for _, s := range table.GroupSettings() {
		got = append(got, strings.Join([]string{s.Name, s.Type.String(), s.Default, s.Importance.String(), s.Valid.String(), s.Synonyms[0].Name}, " "))
		if b, ok := table.Broker(s.Synonyms[0].Name); !ok || b.Default != s.Default || b.Type != s.Type {
			t.Errorf("%s is not as %s", s.Name, s.Synonyms[0].Name)
		}
	}
	want := []string{
		"consumer.heartbeat.interval.ms int 5000 medium [1,...] group.consumer.heartbeat.interval.ms",
		"consumer.session.timeout.ms int 45000 medium [1,...] group.consumer.session.timeout.ms",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// wide are bounds in which there is room.
const wide = "group.consumer.min.session.timeout.ms=1000\ngroup.consumer.max.session.timeout.ms=90000\n" +
	"group.consumer.min.heartbeat.interval.ms=100\ngroup.consumer.max.heartbeat.interval.ms=20000\n"

func TestAlterGroup(t *testing.T) {
	t.Parallel()
	snap := newDynamic(t, wide+"group.consumer.session.timeout.ms=50000").Snapshot()
	set := func(name, value string) Change { return Change{Name: name, Value: &value} }
	for name, tc := range map[string]struct {
		current map[string]string
		changes []Change
		replace bool
		want    map[string]string
		code    int16
		text    string
	}{
		"one set": {current: map[string]string{groupHeartbeat: "900"}, changes: []Change{set(groupSession, " 60000 ")}, want: map[string]string{groupHeartbeat: "900", groupSession: " 60000 "}},
		"one deleted": {
			current: map[string]string{groupHeartbeat: "900", groupSession: "6000"},
			changes: []Change{{Name: groupSession, Op: OpDelete}}, want: map[string]string{groupHeartbeat: "900"},
		},
		"replaced":      {current: map[string]string{groupHeartbeat: "900"}, changes: []Change{set(groupSession, "60000")}, replace: true, want: map[string]string{groupSession: "60000"}},
		"all taken":     {current: map[string]string{groupHeartbeat: "900"}, replace: true, want: map[string]string{}},
		"both bounds":   {changes: []Change{set(groupSession, "90000"), set(groupHeartbeat, "100")}, want: map[string]string{groupSession: "90000", groupHeartbeat: "100"}},
		"unknown":       {changes: []Change{set("nope", "1")}, code: 40, text: "Unknown group config name: nope"},
		"of share":      {changes: []Change{set("share.session.timeout.ms", "45000")}, code: 40, text: "Unknown group config name: share.session.timeout.ms"},
		"of streams":    {changes: []Change{set("streams.num.standby.replicas", "1")}, code: 40, text: "Unknown group config name: streams.num.standby.replicas"},
		"of a topic":    {changes: []Change{set("retention.ms", "1")}, code: 40, text: "Unknown group config name: retention.ms"},
		"no number":     {changes: []Change{set(groupSession, "soon")}, code: 40, text: "Invalid value soon for configuration consumer.session.timeout.ms: Not a number of type INT"},
		"no positive":   {changes: []Change{set(groupSession, "0")}, code: 40, text: "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1"},
		"short session": {changes: []Change{set(groupSession, "999")}, code: 40, text: "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms, and 999 is not: give at least 1000, or lower the broker's setting in server.properties and restart"},
		"long session":  {changes: []Change{set(groupSession, "90001")}, code: 40, text: "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms, and 90001 is not: give at most 90000, or raise the broker's setting in server.properties and restart"},
		"short beat":    {changes: []Change{set(groupHeartbeat, "99")}, code: 40, text: "consumer.heartbeat.interval.ms must be greater than or equal to group.consumer.min.heartbeat.interval.ms, and 99 is not: give at least 100, or lower the broker's setting in server.properties and restart"},
		"long beat":     {changes: []Change{set(groupHeartbeat, "20001")}, code: 40, text: "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms, and 20001 is not: give at most 20000, or raise the broker's setting in server.properties and restart"},
		"session below the broker's interval": {
			changes: []Change{set(groupSession, "5000")}, code: 40,
			text: "consumer.session.timeout.ms (5000) must be greater than consumer.heartbeat.interval.ms (5000), or every member would be taken for dead: alter both in one request",
		},
		"session below the group's interval": {
			current: map[string]string{groupHeartbeat: "20000", groupSession: "60000"}, changes: []Change{set(groupSession, "20000")}, code: 40,
			text: "consumer.session.timeout.ms (20000) must be greater than consumer.heartbeat.interval.ms (20000), or every member would be taken for dead: alter both in one request",
		},
		"append": {changes: []Change{{Name: groupSession, Op: OpAppend, Value: ptr("1")}}, code: 40, text: "Config value append is not allowed for config key: consumer.session.timeout.ms"},
		"null":   {changes: []Change{{Name: groupSession}}, code: 42, text: "Null value not supported for : consumer.session.timeout.ms"},
	} {
		got, err := snap.AlterGroup(tc.current, tc.changes, tc.replace)
		if tc.code == 0 {
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Errorf("%s: %v\n%s", name, err, diff)
			}
			continue
		}
		var k *core.KafkaError
		if !errors.As(err, &k) || k.Code != tc.code || k.Message != tc.text {
			t.Errorf("%s: %v, want %d %s", name, err, tc.code, tc.text)
		}
	}
}

func TestSetGroup(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, wide+"group.consumer.session.timeout.ms=50000")
	times := func(id string) [2]time.Duration { g := d.Group(id); return [2]time.Duration{g.Session, g.Heartbeat} }
	want := func(what, id string, session, beat time.Duration) {
		t.Helper()
		if got := times(id); got != [2]time.Duration{session, beat} {
			t.Errorf("%s: %v", what, got)
		}
	}
	want("nothing set", "g", 50*time.Second, 5*time.Second)
	changed := d.Changed()
	if err := d.SetGroup("g", map[string]string{groupSession: " 60000"}); err != nil {
		t.Error(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	want("one set", "g", time.Minute, 5*time.Second)
	want("another group", "other", 50*time.Second, 5*time.Second)
	// What another program has stored, or other bounds have allowed, is left out.
	err := d.SetGroup("g", map[string]string{groupSession: "90001", groupHeartbeat: "700", "share.isolation.level": "read_committed"})
	want("one of two fits", "g", 50*time.Second, 700*time.Millisecond)
	for _, text := range []string{"group g", "max.session.timeout.ms", "share.isolation.level"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s is not in: %v", text, err)
		}
	}
	if err := d.SetGroup("bad", map[string]string{groupSession: "2000"}); !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("a session below the interval: %v", err)
	}
	want("do not go together", "bad", 50*time.Second, 5*time.Second)
	if got := d.Groups(); !slices.Equal(got, []string{"bad", "g"}) {
		t.Errorf("groups %q", got)
	}
	for _, id := range []string{"g", "bad", "never"} {
		if err := d.SetGroup(id, nil); err != nil {
			t.Error(err)
		}
	}
	want("nothing set any more", "g", 50*time.Second, 5*time.Second)
	if got := d.Groups(); len(got) != 0 {
		t.Errorf("groups %q", got)
	}
}

func TestDescribeGroup(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, wide+"group.consumer.heartbeat.interval.ms=3000")
	if err := d.SetGroup("g", map[string]string{groupSession: "60000"}); err != nil {
		t.Fatal(err)
	}
	show := func(id string, names ...string) (out []string) {
		for _, e := range d.Snapshot().DescribeGroup(d.Group(id), names) {
			if e.ReadOnly || e.Sensitive || e.Doc == "" {
				t.Errorf("%+v", e)
			}
			out = append(out, line(e))
		}
		return out
	}
	beat := "consumer.heartbeat.interval.ms=3000 4 int: group.consumer.heartbeat.interval.ms=3000 4, group.consumer.heartbeat.interval.ms=5000 5"
	if diff := cmp.Diff([]string{beat, "consumer.session.timeout.ms=60000 8 int: consumer.session.timeout.ms=60000 8, group.consumer.session.timeout.ms=45000 5"}, show("g")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{beat, "consumer.session.timeout.ms=45000 5 int: group.consumer.session.timeout.ms=45000 5"}, show("other")); diff != "" {
		t.Error(diff)
	}
	if got := show("g", groupHeartbeat, "share.heartbeat.interval.ms"); !slices.Equal(got, []string{beat}) {
		t.Errorf("one asked for: %q", got)
	}
}

func TestGroupsConcurrently(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 200 {
				var values map[string]string
				if n%3 > 0 {
					values = map[string]string{groupSession: "50000", groupHeartbeat: "6000"}
				}
				if i == 0 {
					if err := d.SetGroup("g", values); err != nil {
						t.Error(err)
					}
					continue
				}
				// Never half of a change.
				if g := d.Group("g"); (g.Session == 50*time.Second) != (g.Heartbeat == 6*time.Second) {
					t.Errorf("%v %v", g.Session, g.Heartbeat)
				}
				_ = d.Groups()
			}
		})
	}
	wg.Wait()
}
