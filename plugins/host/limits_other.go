//go:build !linux

package host

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"syscall"
)

// limits are what a plugin may have: here GOMEMLIMIT alone, and the others are named in
// the log as not kept.
type limits struct{ s *Spec }

func newLimits(s *Spec, log *slog.Logger) *limits {
	if s.Memory > 0 || s.OpenFiles > 0 || s.Nice != 0 {
		log.Warn("on this system a plugin's memory is bounded by GOMEMLIMIT alone, its files and its priority not at all")
	}
	return &limits{s}
}

func (l *limits) environment() []string {
	if l.s.Memory == 0 {
		return nil
	}
	return []string{"GOMEMLIMIT=" + strconv.FormatInt(l.s.Memory-l.s.Memory/10, 10)}
}

func (l *limits) attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func (l *limits) apply(int) {}

func (l *limits) over(int) error { return nil }

func (l *limits) overflowed() error { return nil }

func (l *limits) remove() {}

// reap waits for the process's end and kills what it has started.
func (r *programRunner) reap() {
	r.waited()
	r.mu.Lock()
	defer r.mu.Unlock()
	killGroup(r.cmd.Process)
	close(r.done)
}

func killGroup(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // gone is as good
	_ = p.Kill()
}

func lifeline() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the plugin's lifeline: %w", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "lifeline"), os.NewFile(uintptr(fds[1]), "lifeline of the plugin"), nil
}
