package host_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/plugins/host"
)

// TestRandom lets crashes, hanging and crashing calls, reloads, restarts and at last Close
// coincide as a seed says, round after round, and compares what comes of each round with a
// simple model. HOST_TEST_SEEDS=FROM-TO tries others.
func TestRandom(t *testing.T) {
	t.Parallel()
	from, to := uint64(1), uint64(4)
	if s := os.Getenv("HOST_TEST_SEEDS"); s != "" {
		if _, err := fmt.Sscanf(s, "%d-%d", &from, &to); err != nil {
			t.Fatal(err)
		}
	}
	for seed := from; seed <= to; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			newModel(t, seed).run()
		})
	}
}

// model is a plugin and what it must be like.
type model struct {
	t   *testing.T
	rng *rand.Rand
	s   *script
	h   *host.Host
	log *logged
	p   core.Partitioner
	// patient plugins are started again and again; the others not at all.
	patient bool
	// works is whether what is at the plugin's path starts.
	works bool
	// may are the states that the plugin may be in once all is quiet.
	may []host.State

	mu sync.Mutex
	ok int // requests of operators that went well
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), s: newScript(t), patient: seed%2 == 0,
		works: true, may: []host.State{host.Running},
	}
	restarts := "0"
	if m.patient {
		restarts = "1000000"
	}
	m.h, m.log = mustOpen(t, settings(t, "good", m.s.setting(), "plugin.p.restart.max="+restarts, "plugin.p.restart.backoff.max.ms=5",
		"plugin.p.call.timeout.ms=500", "plugin.p.stop.timeout.ms=100", "plugin.p.breaker.failures=1000000"))
	m.p = partitioner(t, m.h)
	return m
}

func (m *model) run() {
	const rounds = 6
	for round := range rounds {
		before := m.h.List()[0].State
		did := m.round(round == rounds-1)
		m.t.Logf("round %d: works %v, patient %v, %s: %s; %d requests went well", round, m.works, m.patient, before, strings.Join(did, ", "), m.ok)
		if m.t.Failed() {
			m.t.Log(m.log)
			return
		}
	}
}

// round does some things at once and waits until all is quiet again.
func (m *model) round(last bool) []string {
	if m.works = m.rng.IntN(3) > 0; m.works {
		m.s.set("start", "")
	} else {
		m.s.set("start", "exit")
	}
	if m.patient && m.works { // a start that was on its way when this changed is over
		inState(m.t, m.h, host.Running)
		m.may = []host.State{host.Running}
	}
	m.ok = 0
	var wg sync.WaitGroup
	var did []string
	var killed []int
	exits, asked := false, false
	for range 1 + m.rng.IntN(5) {
		var what string
		switch n := m.rng.IntN(6); {
		case n < 2:
			what = []string{"reload", "restart"}[n]
			ask := []func() error{
				func() error { return m.h.Reload(m.t.Context(), "p") }, func() error { return m.h.Restart(m.t.Context(), "p") },
			}[n]
			asked = true
			wg.Go(func() { m.operator(what, ask(), last) })
		case n == 2:
			what = "crash"
			if pid := m.h.List()[0].PID; pid != 0 {
				switch err := syscall.Kill(pid, syscall.SIGKILL); {
				case err == nil:
					killed = append(killed, pid)
				case !errors.Is(err, syscall.ESRCH): // which says that a call has done it
					m.t.Error(err)
				}
			}
		default:
			// What the calls of this moment meet; those of a moment ago may meet it too.
			mode := []string{"", "wait", "exit"}[n-3]
			what = "call " + mode
			m.s.set("call", mode)
			exits = exits || mode == "exit"
			wg.Go(func() {
				if err := place(m.t, m.p); err != nil { // the fallback places when the plugin does not
					m.t.Error(err)
				}
			})
		}
		did = append(did, what)
	}
	if last {
		did = append(did, "close")
		wg.Go(m.h.Close)
	}
	within(m.t, strings.Join(did, ", "), wg.Wait)
	m.s.set("call", "")
	for _, pid := range killed {
		await(m.t, "the end of a process", func() bool { return !alive(pid) })
	}
	m.s.exits("call")
	m.settle(len(killed) > 0, exits, asked, last)
	return did
}

// operator checks what a request answers.
func (m *model) operator(what string, err error, last bool) {
	switch {
	case err == nil && m.works:
		m.mu.Lock()
		m.ok++
		m.mu.Unlock()
	case last && errors.Is(err, core.ErrClosed):
	case last && err != nil: // what was being started died of the Close
	case err != nil && !m.works:
	default:
		m.t.Errorf("%s: %v", what, err)
	}
}

// settle waits until the plugin is in a state that the model allows: after a death, or a
// call that may have been one, and what operators have asked for.
func (m *model) settle(killed, exits, asked, closed bool) {
	was := m.may
	down := []host.State{host.Failed}
	if m.patient {
		down = []host.State{host.Waiting, host.Starting} // tried again and again
	}
	switch {
	case closed:
		m.may = []host.State{host.Stopped}
	case m.works && (m.patient || asked && !killed && !exits):
		m.may = []host.State{host.Running}
	case m.works && asked: // whichever came last
		m.may = []host.State{host.Running, host.Failed}
	case killed:
		m.may = down
	case exits: // if it was asked in time
		m.may = append(down, was...)
	}
	// A process that is dead is not taken for one that runs; it will be noticed.
	quiet := func() bool {
		st := m.h.List()[0]
		return slices.Contains(m.may, st.State) && (st.State != host.Running || slices.Equal(m.s.processes(), []int{st.PID}))
	}
	await(m.t, fmt.Sprintf("%v after %v (killed %v, exits %v, asked %v)", m.may, was, killed, exits, asked), quiet)
	switch st := m.h.List()[0]; st.State {
	case host.Running:
		m.may = []host.State{host.Running}
		if err := place(m.t, m.p); err != nil {
			m.t.Errorf("a call: %v", err)
		}
	case host.Failed, host.Stopped:
		m.may = []host.State{st.State}
		m.s.left(0)
	default:
		m.may = down
	}
}
