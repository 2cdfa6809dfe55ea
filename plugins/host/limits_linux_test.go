package host

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestGroupsApart: the end of one process's cgroup is not that of another's, of the same
// plugin, which runs beside it during a reload. The directory is none of cgroups, but it
// shows what is written where.
func TestGroupsApart(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	var both []*limits
	for range 2 {
		l := &limits{s: &Spec{Name: "p", Memory: 1 << 30}, log: slog.New(slog.DiscardHandler)}
		if err := l.makeGroupIn(parent); err != nil {
			t.Fatal(err)
		}
		both = append(both, l)
	}
	old, next := both[0].group, both[1].group
	for _, l := range both {
		t.Cleanup(l.remove)
	}
	both[0].remove()
	if _, err := os.Stat(filepath.Join(old, "cgroup.kill")); err != nil {
		t.Errorf("the old group was not ended: %v", err)
	}
	if _, err := os.Stat(filepath.Join(next, "cgroup.kill")); err == nil || old == next {
		t.Error("the new group was ended with the old one")
	}
}
