package host

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverflowed: the kernel's reason is told. The cgroup is a folder like it.
func TestOverflowed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	own := filepath.Join(root, "broker")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := &limits{s: &Spec{Name: "p", Memory: 1 << 20}, log: slog.New(slog.DiscardHandler)}
	if err := l.makeGroup(root, "5:memory:/broker\n"); !errors.Is(err, errNoCgroup) {
		t.Errorf("without cgroup v2: %v", err)
	}
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(own, "cgroup.subtree_control"), "cpu\n")
	if err := l.makeGroup(root, "0::/broker\n"); !errors.Is(err, errNoCgroup) {
		t.Errorf("without a memory controller: %v", err)
	}
	write(filepath.Join(own, "cgroup.subtree_control"), "cpu memory\n")
	if err := l.makeGroup(root, "0::/broker\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.remove)
	if err := l.overflowed(); err != nil {
		t.Errorf("nothing has happened: %v", err)
	}
	write(filepath.Join(l.group, "memory.events"), "low 0\nhigh 0\noom 1\noom_kill 0\n")
	if err := l.overflowed(); err != nil {
		t.Errorf("nothing was killed: %v", err)
	}
	write(filepath.Join(l.group, "memory.events"), "low 0\nhigh 0\noom 1\noom_kill 1\n")
	if err := l.overflowed(); !errors.Is(err, errMemory) || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("it was killed: %v", err)
	}
}

// TestOver: without a cgroup the supervisor looks at the memory.
func TestOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limits limits
		pid    int
		over   bool
	}{
		{limits{s: &Spec{}}, os.Getpid(), false},
		{limits{s: &Spec{Memory: 1}}, os.Getpid(), true},
		{limits{s: &Spec{Memory: 1 << 60}}, os.Getpid(), false},
		{limits{s: &Spec{Memory: 1}, group: "/sys/fs/cgroup/x"}, os.Getpid(), false},
		{limits{s: &Spec{Memory: 1}}, -1, false}, // gone
	} {
		if err := c.limits.over(c.pid); errors.Is(err, errMemory) != c.over {
			t.Errorf("%+v: %v", c.limits.s, err)
		}
	}
}
