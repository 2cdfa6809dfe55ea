package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/plugins/host"
)

// An hour, in ms: what has that bound hangs the test unless it ends otherwise.
const anHour = "3600000"

// within fails where f does not end, long before the test's own bound, and long after a
// slow machine is done.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	guard := time.NewTimer(5 * time.Minute)
	defer guard.Stop()
	select {
	case <-done:
	case <-guard.C:
		t.Fatalf("%s: still not done", what)
	}
}

// later runs f and hands out what it answers.
func later(f func() error) <-chan error {
	out := make(chan error, 1)
	go func() { out <- f() }()
	return out
}

func answer(t testing.TB, what string, c <-chan error) (err error) {
	t.Helper()
	within(t, what, func() { err = <-c })
	return err
}

func kill(t testing.TB, pid int) {
	t.Helper()
	signal(t, pid, syscall.SIGKILL)
}

func signal(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 0 {
		t.Fatal("no process") // 0 is the test's own group
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// place makes one call.
func place(t testing.TB, p core.Partitioner) error {
	rs, topic := records()
	return p.Partition(t.Context(), topic, rs, make([]int32, len(rs)))
}

func inState(t testing.TB, h *host.Host, want host.State) {
	t.Helper()
	await(t, "state "+string(want), func() bool { return h.List()[0].State == want })
}

// TestReloadDuringCrash: the old process dies while its successor starts. Calls wait for
// the successor, which takes its place.
func TestReloadDuringCrash(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	h, log := mustOpen(t, settings(t, "good", s.setting()))
	p := partitioner(t, h)
	old := h.List()[0].PID
	s.set("start", "wait")
	reload := later(func() error { return h.Reload(t.Context(), "p") })
	next := s.waits("start")
	kill(t, old)
	inState(t, h, host.Starting) // it is noticed, although the reload has not ended
	call := later(func() error { return place(t, p) })
	s.set("start", "")
	if err := answer(t, "reload", reload); err != nil {
		t.Errorf("reload: %v", err)
	}
	if err := answer(t, "call", call); err != nil {
		t.Errorf("call: %v", err)
	}
	if st := h.List()[0]; st.PID != next || st.State != host.Running || st.Restarts != 1 || st.Fallbacks != 0 {
		t.Errorf("%+v\n%s", st, log)
	}
	s.left(1)
}

// TestReloadDuringCrashFails: the old process dies while a successor starts that is no
// good. The operator hears both, and the plugin is started again by itself.
func TestReloadDuringCrashFails(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	h, _ := mustOpen(t, settings(t, "good", s.setting(), "plugin.p.restart.max=1000000", "plugin.p.restart.backoff.max.ms=5"))
	s.set("start", "wait")
	reload := later(func() error { return h.Reload(t.Context(), "p") })
	s.waits("start")
	kill(t, h.List()[0].PID)
	inState(t, h, host.Starting)
	s.set("start", "exit")
	if err := answer(t, "reload", reload); err == nil || !strings.Contains(err.Error(), "has died meanwhile") {
		t.Errorf("reload: %v", err)
	}
	s.set("start", "")
	inState(t, h, host.Running)
	s.left(1)
}

// TestReloadDuringBackoff: nobody who asks for a new process waits for the pause.
func TestReloadDuringBackoff(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	h, _ := mustOpen(t, settings(t, "good", s.setting(), "plugin.p.restart.backoff.ms="+anHour, "plugin.p.restart.backoff.max.ms="+anHour))
	kill(t, h.List()[0].PID)
	inState(t, h, host.Waiting)
	s.left(0)
	if err := answer(t, "reload", later(func() error { return h.Reload(t.Context(), "p") })); err != nil {
		t.Fatal(err)
	}
	if st := h.List()[0]; st.State != host.Running || st.Restarts != 1 {
		t.Errorf("%+v", st)
	}
	s.left(1)
}

// TestRestartDuringReload: what several operators want at once is done one after the
// other, and one process is left.
func TestRestartDuringReload(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	h, log := mustOpen(t, settings(t, "good", s.setting()))
	p := partitioner(t, h)
	s.set("start", "wait")
	asked := []<-chan error{later(func() error { return h.Reload(t.Context(), "p") })}
	s.waits("start")
	for range 2 {
		asked = append(asked, later(func() error { return h.Restart(t.Context(), "p") }), later(func() error { return h.Reload(t.Context(), "p") }))
	}
	if err := place(t, p); err != nil { // the old one serves meanwhile
		t.Error(err)
	}
	if n := len(s.processes()); n != 2 {
		t.Errorf("%d processes", n)
	}
	s.set("start", "")
	for _, a := range asked {
		if err := answer(t, "a request", a); err != nil {
			t.Error(err)
		}
	}
	if st := h.List()[0]; st.State != host.Running || st.Restarts != 5 || st.Fallbacks != 0 {
		t.Errorf("%+v\n%s", st, log)
	}
	s.left(1)
}

// TestConfigureDuringRestart: a process that is started while the components are
// configured is configured too.
func TestConfigureDuringRestart(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(t *testing.T, h *host.Host, s *script) <-chan error{
		"restart before": func(t *testing.T, h *host.Host, s *script) <-chan error {
			s.set("start", "wait")
			asked := later(func() error { return h.Restart(t.Context(), "p") })
			s.waits("start")
			time.AfterFunc(time.Millisecond, func() { s.set("start", "") })
			return asked
		},
		"restart at once": func(t *testing.T, h *host.Host, _ *script) <-chan error {
			return later(func() error { return h.Restart(t.Context(), "p") })
		},
		"death before": func(t *testing.T, h *host.Host, _ *script) <-chan error {
			kill(t, h.List()[0].PID)
			return later(func() error { return nil })
		},
		"death within": func(_ *testing.T, _ *host.Host, s *script) <-chan error {
			s.set("configure", "wait")
			return later(func() error {
				pid := s.waits("configure")
				s.set("configure", "")
				return syscall.Kill(pid, syscall.SIGKILL)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t)
			h, configure := openOnly(t, settings(t, "good", s.setting()))
			other := disturb(t, h, s)
			if err := answer(t, "configure", later(configure)); err != nil {
				t.Error(err)
			}
			if err := answer(t, "what disturbs", other); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Error(err)
			}
			if err := place(t, partitioner(t, h)); err != nil {
				t.Error(err)
			}
			if st := h.List()[0]; st.Fallbacks != 0 || st.State != host.Running {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestDrainIsWatched: while an old process finishes what it is doing, for as long as it
// likes, the new one is looked after.
func TestDrainIsWatched(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	h, _ := mustOpen(t, settings(t, "good", s.setting(), "plugin.p.stop.timeout.ms="+anHour, "plugin.p.call.timeout.ms="+anHour))
	p := partitioner(t, h)
	s.set("call", "wait")
	call := later(func() error { return place(t, p) })
	old := s.waits("call")
	if err := answer(t, "reload", later(func() error { return h.Reload(t.Context(), "p") })); err != nil {
		t.Fatal(err)
	}
	next := h.List()[0].PID
	kill(t, next)
	await(t, "another process", func() bool {
		st := h.List()[0]
		return st.State == host.Running && st.PID != next
	})
	if !alive(old) {
		t.Error("the old process did not finish what it was doing")
	}
	s.set("call", "")
	if err := answer(t, "the call", call); err != nil || h.List()[0].Fallbacks != 0 {
		t.Errorf("the call of the old process: %v", err)
	}
	s.left(1)
}

// TestClose ends a plugin whatever it is at: nothing is waited for but what the settings
// allow, no process is left, and whoever waits hears of it.
func TestClose(t *testing.T) {
	t.Parallel()
	hour := []string{"plugin.p.call.timeout.ms=" + anHour, "plugin.p.start.timeout.ms=" + anHour, "plugin.p.stop.timeout.ms=" + anHour}
	for name, c := range map[string]struct {
		settings []string
		before   func(t *testing.T, h *host.Host, s *script) <-chan error
		want     error
	}{
		"hanging call": {
			[]string{"plugin.p.stop.timeout.ms=50"},
			func(t *testing.T, h *host.Host, s *script) <-chan error {
				s.set("call", "wait")
				call := later(func() error { return place(t, partitioner(t, h)) })
				s.waits("call")
				return call
			},
			core.ErrClosed,
		},
		"hanging call of an old process": {
			[]string{"plugin.p.stop.timeout.ms=50"},
			func(t *testing.T, h *host.Host, s *script) <-chan error {
				s.set("call", "wait")
				call := later(func() error { return place(t, partitioner(t, h)) })
				s.waits("call")
				if err := h.Reload(t.Context(), "p"); err != nil {
					t.Error(err)
				}
				return call
			},
			core.ErrClosed,
		},
		"stopped process": {
			[]string{"plugin.p.stop.timeout.ms=50"},
			func(t *testing.T, h *host.Host, s *script) <-chan error {
				s.set("call", "wait")
				call := later(func() error { return place(t, partitioner(t, h)) })
				signal(t, s.waits("call"), syscall.SIGSTOP)
				return call
			},
			core.ErrClosed,
		},
		"start": {
			nil,
			func(t *testing.T, h *host.Host, s *script) <-chan error {
				s.set("start", "wait")
				kill(t, h.List()[0].PID)
				s.waits("start")
				return later(func() error { return h.Restart(t.Context(), "p") })
			},
			core.ErrClosed,
		},
		"configuration of a restart": {
			nil,
			func(t *testing.T, h *host.Host, s *script) <-chan error {
				s.set("configure", "wait")
				kill(t, h.List()[0].PID)
				s.waits("configure")
				return later(func() error { return place(t, partitioner(t, h)) })
			},
			core.ErrClosed,
		},
		"start of a reload": {
			nil,
			func(t *testing.T, h *host.Host, s *script) <-chan error {
				s.set("start", "wait")
				reload := later(func() error { return h.Reload(t.Context(), "p") })
				s.waits("start")
				return reload
			},
			core.ErrClosed,
		},
		"pause": {
			[]string{"plugin.p.restart.backoff.ms=" + anHour, "plugin.p.restart.backoff.max.ms=" + anHour},
			func(t *testing.T, h *host.Host, _ *script) <-chan error {
				kill(t, h.List()[0].PID)
				inState(t, h, host.Waiting)
				return later(func() error { return place(t, partitioner(t, h)) })
			},
			core.ErrClosed,
		},
		"failed": {
			[]string{"plugin.p.restart.max=0"},
			func(t *testing.T, h *host.Host, _ *script) <-chan error {
				kill(t, h.List()[0].PID)
				inState(t, h, host.Failed)
				err := place(t, partitioner(t, h)) // does not wait
				return later(func() error { return err })
			},
			host.ErrFailed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t)
			h, _ := mustOpen(t, settings(t, "good", append(append(hour, s.setting(), "plugin.p.fallback=none"), c.settings...)...))
			waits := c.before(t, h, s)
			within(t, "Close", h.Close)
			if err := answer(t, "who waits", waits); !errors.Is(err, c.want) {
				t.Errorf("who waits hears %v, want %v", err, c.want)
			}
			if st := h.List()[0]; st.State != host.Stopped || st.PID != 0 {
				t.Errorf("%+v", st)
			}
			if pids := s.processes(); len(pids) > 0 {
				t.Errorf("processes %v are left", pids)
			}
			if err := h.Restart(t.Context(), "p"); !errors.Is(err, core.ErrClosed) {
				t.Errorf("restart after Close: %v", err)
			}
			if err := place(t, partitioner(t, h)); !errors.Is(err, core.ErrClosed) {
				t.Errorf("call after Close: %v", err)
			}
			within(t, "Close again", h.Close)
		})
	}
}

// TestUnresponsive: a process that lives and does not answer is killed, and another one
// started; one that was in its place already is not waited for either.
func TestUnresponsive(t *testing.T) {
	t.Parallel()
	t.Run("health", func(t *testing.T) {
		t.Parallel()
		s := newScript(t)
		h, log := mustOpen(t, settings(t, "good", s.setting(), "plugin.p.health.interval.ms=300", "plugin.p.restart.max=1000000"))
		pid := 0
		await(t, "a process to stop", func() bool { // a slow machine may be at the second one by now
			pid = h.List()[0].PID
			return pid != 0 && syscall.Kill(pid, syscall.SIGSTOP) == nil
		})
		await(t, "another process", func() bool {
			st := h.List()[0]
			return st.State == host.Running && st.PID != pid
		})
		if alive(pid) || !strings.Contains(log.String(), "the plugin does not answer") {
			t.Errorf("the old process lives: %v\n%s", alive(pid), log)
		}
	})
	t.Run("reload", func(t *testing.T) {
		t.Parallel()
		s := newScript(t)
		h, _ := mustOpen(t, settings(t, "good", s.setting(), "plugin.p.stop.timeout.ms=50"))
		pid := h.List()[0].PID
		signal(t, pid, syscall.SIGSTOP)
		for range 2 {
			if err := answer(t, "reload", later(func() error { return h.Reload(t.Context(), "p") })); err != nil {
				t.Fatal(err)
			}
		}
		s.left(1)
		if alive(pid) {
			t.Error("the old process lives")
		}
	})
}

// TestInspectHangs: a component that is never configured does not keep who inspects it.
// (A start that is slower than the bound ends the same way.)
func TestInspectHangs(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.set("configure", "wait")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := host.DefaultSpec("p", self)
	if err != nil {
		t.Fatal(err)
	}
	spec.StartTimeout, spec.StopTimeout = time.Second, 50*time.Millisecond
	spec.Environment = []string{modeEnv + "=good", dirEnv + "=" + s.dir}
	err = answer(t, "inspect", later(func() error {
		_, err := host.Inspect(t.Context(), spec, func(string) (string, bool) { return "", false }, discard())
		return err
	}))
	if err == nil {
		t.Error("it was configured")
	}
	s.left(0)
}

// TestDaemon: something that the plugin has started, and that nobody can find, holds its
// connection. Neither Close nor a call waits for it.
func TestDaemon(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("no /proc")
	}
	h, log := mustOpen(t, settings(t, "daemon", "plugin.p.call.timeout.ms="+anHour, "plugin.p.stop.timeout.ms=50", "plugin.p.fallback=none"))
	call := later(func() error { return place(t, partitioner(t, h)) })
	child := loggedChild(t, log)
	t.Cleanup(func() { kill(t, child) })
	within(t, "Close", h.Close)
	if err := answer(t, "the call", call); err == nil {
		t.Error("it was answered by nobody")
	}
}

// TestLongLine: a program that prints more to its standard output than go-plugin reads
// does not hang.
func TestLongLine(t *testing.T) {
	t.Parallel()
	h, _ := mustOpen(t, settings(t, "one long line", "plugin.p.call.timeout.ms="+anHour, "plugin.p.fallback=none"))
	p := partitioner(t, h)
	if err := answer(t, "the call", later(func() error { return place(t, p) })); err != nil {
		t.Error(err)
	}
}

// TestRestartsLeaveNothing: 30 starts later the broker has as many descriptors, goroutines
// and files as before. It is not parallel: it counts what the process has.
func TestRestartsLeaveNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	entries := func(dir string) int {
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Skip("no /proc:", err)
		}
		return len(all)
	}
	count := func() [3]int { return [3]int{entries("/proc/self/fd"), runtime.NumGoroutine(), entries(tmp)} }
	path := filepath.Join(t.TempDir(), "p")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := func() {
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
	}
	link()
	h, _ := mustOpen(t, settings(t, "good", "plugin.p.path="+path, "plugin.p.restart.max=0"))
	p := partitioner(t, h)
	again := func(i int) {
		switch i % 3 {
		case 0: // the old one is drained
			if err := h.Reload(t.Context(), "p"); err != nil {
				t.Fatal(err)
			}
		case 1: // the old one dies, and what is there now is no program
			kill(t, h.List()[0].PID)
			inState(t, h, host.Failed)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("no program"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := h.Restart(t.Context(), "p"); err == nil {
				t.Fatal("it was taken for a plugin")
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			link()
			if err := h.Restart(t.Context(), "p"); err != nil {
				t.Fatal(err)
			}
		default: // a call finds it dead
			pid := h.List()[0].PID
			kill(t, pid)
			inState(t, h, host.Failed)
			if err := h.Restart(t.Context(), "p"); err != nil {
				t.Fatal(err)
			}
		}
		if err := place(t, p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 { // what is made once is there
		again(i)
	}
	var before [3]int
	await(t, "quiet", func() bool { // the last old one is drained
		last := before
		before = count()
		time.Sleep(10 * time.Millisecond)
		return last == before
	})
	for i := range 30 {
		again(i)
	}
	var after [3]int
	await(t, "as before: descriptors, goroutines, files", func() bool {
		after = count()
		return !slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool { return after[i] > before[i] })
	})
	t.Logf("descriptors, goroutines, files: %v before, %v after", before, after)
}

// loggedChild is the number of a process that a plugin says it has started.
func loggedChild(t testing.TB, log *logged) int {
	t.Helper()
	child := 0
	await(t, "the child's number", func() bool {
		if _, after, ok := strings.Cut(log.String(), `msg="child `); ok {
			digits, _, _ := strings.Cut(after, `"`)
			child, _ = strconv.Atoi(digits)
		}
		return child != 0
	})
	return child
}

// openOnly opens a host without configuring it, and answers how to do that.
func openOnly(t testing.TB, s map[string]string) (*host.Host, func() error) {
	t.Helper()
	h, configure, _, err := start(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return h, configure
}
