package host

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limits are what a plugin may have.
//
// Memory is bounded by a cgroup (v2) below the broker's own where the broker may make
// one: the kernel kills the plugin at the limit. Where it may not, over tells the
// supervisor, with each look at the plugin's health. GOMEMLIMIT is set in both cases, so
// that a plugin in Go collects garbage before it comes to that.
type limits struct {
	s     *Spec
	log   *slog.Logger
	group string   // the cgroup's directory; empty when there is none
	dir   *os.File // the same, open
}

func newLimits(s *Spec, log *slog.Logger) *limits {
	l := &limits{s: s, log: log}
	if s.Memory > 0 {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err == nil {
			err = l.makeGroup("/sys/fs/cgroup", string(own))
		}
		if err != nil {
			log.Warn("the plugin's memory is bounded by GOMEMLIMIT and looked at with its health: no cgroup could be made for it", "error", err)
		}
	}
	return l
}

var errNoCgroup = errors.New("there is no cgroup (v2) of the broker's own with a memory controller")

// makeGroup makes a cgroup below that of the broker, which own names as /proc does.
func (l *limits) makeGroup(root, own string) error {
	var parent string
	for line := range strings.Lines(own) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			parent = filepath.Join(root, path)
		}
	}
	controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.subtree_control"))
	if parent == "" || err != nil || !strings.Contains(string(controllers), "memory") {
		return errNoCgroup
	}
	return l.makeGroupIn(parent)
}

// makeGroupIn makes a cgroup of this process alone: during a reload two processes of a
// plugin run, and the group's end is the end of all that is in it.
func (l *limits) makeGroupIn(parent string) error {
	group, err := os.MkdirTemp(parent, fmt.Sprintf("millrace-plugin-%s-%d-*", l.s.Name, os.Getpid()))
	if err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(group, "memory.max"), []byte(strconv.FormatInt(l.s.Memory, 10)), 0o600); err != nil {
		_ = os.Remove(group) // the first error counts
		return fmt.Errorf("set the cgroup's memory.max: %w", err)
	}
	dir, err := os.Open(group)
	if err != nil {
		_ = os.Remove(group)
		return fmt.Errorf("open the cgroup: %w", err)
	}
	l.group, l.dir = group, dir
	return nil
}

// environment is what the limits add to it.
func (l *limits) environment() []string {
	if l.s.Memory == 0 {
		return nil
	}
	// A tenth is left for what Go does not count.
	return []string{"GOMEMLIMIT=" + strconv.FormatInt(l.s.Memory-l.s.Memory/10, 10)}
}

// attributes start the process in a group of its own, to be told by the kernel when the
// broker dies. SIGTERM, which ends a program unless it says otherwise, and not SIGKILL:
// that would end the plugin before it can end what it has started (sdk/plugin does).
func (l *limits) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if l.dir != nil {
		a.UseCgroupFD, a.CgroupFD = true, int(l.dir.Fd())
	}
	return a
}

// apply sets the limits of a running process.
func (l *limits) apply(pid int) {
	if n := l.s.OpenFiles; n > 0 {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)}, nil); err != nil {
			l.log.Warn("cannot limit the plugin's open files", "limit", n, "error", err)
		}
	}
	if n := l.s.Nice; n != 0 {
		if err := unix.Setpriority(unix.PRIO_PGRP, pid, n); err != nil {
			l.log.Warn("cannot set the plugin's priority", "nice", n, "error", err)
		}
	}
}

// over says so when a process has more memory than it may have. It is nil where a cgroup
// sees to it.
func (l *limits) over(pid int) error {
	if l.s.Memory == 0 || l.group != "" {
		return nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return nil //nolint:nilerr // it is gone, which shows elsewhere
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return nil
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if used := pages * int64(os.Getpagesize()); err == nil && used > l.s.Memory {
		return fmt.Errorf("%w: it has %d bytes and may have %d", errMemory, used, l.s.Memory)
	}
	return nil
}

// overflowed says so when the kernel has killed something in the cgroup for its memory.
func (l *limits) overflowed() error {
	if l.group == "" {
		return nil
	}
	events, err := os.ReadFile(filepath.Join(l.group, "memory.events"))
	if err != nil {
		return nil // it only explains
	}
	for line := range strings.Lines(string(events)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok && n != "0" {
			return fmt.Errorf("%w: the kernel killed it at %d bytes", errMemory, l.s.Memory)
		}
	}
	return nil
}

// remove frees the cgroup, after the process has ended.
func (l *limits) remove() {
	if l.dir == nil {
		return
	}
	_ = l.dir.Close() // only a handle
	// What the plugin has started may be in it still, and takes a moment to end.
	_ = os.WriteFile(filepath.Join(l.group, "cgroup.kill"), []byte("1"), 0)
	err := os.Remove(l.group)
	for i := 0; i < 50 && errors.Is(err, unix.EBUSY); i++ {
		time.Sleep(10 * time.Millisecond)
		err = os.Remove(l.group)
	}
	if err != nil {
		l.log.Debug("a plugin's cgroup is left", "dir", l.group, "error", err)
	}
	l.dir = nil
}

// reap waits for the process's end and kills what it has started. Until it is reaped
// its number is its own, so that no group is killed that has it next.
func (r *programRunner) reap() {
	for {
		err := unix.Waitid(unix.P_PID, r.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	killGroup(r.cmd.Process)
	r.waited()
	close(r.done)
}

// killGroup kills a process and its process group.
func killGroup(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // gone is as good
	_ = p.Kill()
}

// lifeline makes the socket by whose end a plugin sees that the broker is dead.
func lifeline() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the plugin's lifeline: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "lifeline"), os.NewFile(uintptr(fds[1]), "lifeline of the plugin"), nil
}
