package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
)

// recorder notes when each request arrives.
type recorder struct {
	mu     sync.Mutex
	start  time.Time
	events []string
}

func (r *recorder) Open(context.Context, core.Peer) (core.ClientSession, error) { return r, nil }

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) Close() {}
func (r *recorder) Serve(_ context.Context, f []byte, w core.ReplyWriter) error {
	r.mu.Lock()
	r.events = append(r.events, fmt.Sprintf("%s at %s", f, time.Since(r.start)))
	r.mu.Unlock()
	w.Reply(&core.Reply{Parts: []core.Part{{Bytes: bytes.Clone(f)}}})
	return nil
}

// simulate sends frames over a few connections and returns what arrived and when,
// with what the clients saw.
func simulate(t *testing.T, f Faults) []string {
	t.Helper()
	var events []string
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{start: time.Now()}
		tr := open(t, Options{Faults: &f})
		l, err := tr.Listen(t.Context(), core.ListenerConfig{Address: "broker:9092"}, r)
		if err != nil {
			t.Fatal(err)
		}
		var seen [4][]string
		var wg sync.WaitGroup
		for i := range seen {
			c, err := tr.Dial(t.Context(), "broker:9092", core.ListenerConfig{})
			if err != nil {
				seen[i] = append(seen[i], fmt.Sprintf("dial %d: %v", i, err))
				continue
			}
			for n := range 10 {
				if err := c.WriteFrame(t.Context(), core.Part{Bytes: fmt.Appendf(nil, "%d.%d", i, n)}); err != nil {
					seen[i] = append(seen[i], fmt.Sprintf("write %d.%d: dropped %v", i, n, errors.Is(err, errDropped)))
					break
				}
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				for range 10 {
					b, err := c.ReadFrame(context.Background(), nil)
					if err != nil {
						seen[i] = append(seen[i], fmt.Sprintf("read %d: dropped %v", i, errors.Is(err, errDropped)))
						return
					}
					seen[i] = append(seen[i], fmt.Sprintf("reply %s at %s", b, time.Since(r.start)))
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		// Connections are served side by side: requests that arrive at one instant have
		// no order among each other.
		events = r.all()
		slices.Sort(events)
		for i := range seen {
			events = append(events, seen[i]...)
		}
	})
	return events
}

// TestFaultsBySeed: one seed is one run, and another one another.
func TestFaultsBySeed(t *testing.T) {
	t.Parallel()
	plan := Faults{Seed: 1, MinDelay: time.Millisecond, MaxDelay: 50 * time.Millisecond, Drop: 0.02, Refuse: 0.1}
	first := simulate(t, plan)
	for range 5 {
		if again := simulate(t, plan); !slices.Equal(first, again) {
			t.Fatalf("the same seed gave\n%q\nand then\n%q", first, again)
		}
	}
	plan.Seed = 2
	if other := simulate(t, plan); slices.Equal(first, other) {
		t.Errorf("two seeds gave the same run: %q", other)
	}
}

// TestDelay: frames arrive within the bounds and in order, and connections
// overtake each other.
func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const least, most = 10 * time.Millisecond, 100 * time.Millisecond
		r := &recorder{start: time.Now()}
		tr := open(t, Options{Faults: &Faults{Seed: 7, MinDelay: least, MaxDelay: most}})
		l, err := tr.Listen(t.Context(), core.ListenerConfig{Address: "b:1"}, r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		var conns []core.Conn
		for i := range 20 {
			c, err := tr.Dial(t.Context(), "b:1", core.ListenerConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			conns = append(conns, c)
			for n := range 3 {
				if err := c.WriteFrame(t.Context(), core.Part{Bytes: []byte{'a' + byte(i), '0' + byte(n)}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(r.all()) != 0 {
			t.Error("a frame arrived at once")
		}
		time.Sleep(most)
		synctest.Wait()
		last := make(map[byte]byte)
		var order []byte
		for _, e := range r.all() {
			if e[1] < last[e[0]] {
				t.Errorf("%q came after its successor", e)
			}
			last[e[0]] = e[1]
			order = append(order, e[0])
		}
		if len(order) != 60 || slices.IsSorted(order) {
			t.Errorf("connections did not overtake each other: %s", order)
		}
		_, err = conns[0].ReadFrame(t.Context(), nil)
		if d := time.Since(r.start); err != nil || d < 2*least || d > 2*most {
			t.Errorf("the reply came after %s (%v)", d, err)
		}
	})
}

func TestFaultsValidate(t *testing.T) {
	t.Parallel()
	for _, f := range []Faults{{MinDelay: -1}, {MinDelay: 2, MaxDelay: 1}, {Drop: 2}, {Refuse: -1}} {
		if _, err := New(Options{Faults: &f}); !errors.Is(err, core.ErrInvalidConfig) {
			t.Errorf("%+v: %v, want ErrInvalidConfig", f, err)
		}
	}
}

// TestAddresses: names, ports and who is reached.
func TestAddresses(t *testing.T) {
	t.Parallel()
	tr := open(t, Options{})
	listen := func(addr string) (core.Listener, error) {
		return tr.Listen(t.Context(), core.ListenerConfig{Address: addr}, &recorder{})
	}
	l, err := listen(":9092")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if l, err := listen(":9092"); err == nil {
		t.Error("two listeners have one address")
		_ = l.Close()
	}
	a, err := listen("a:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.DialContext(t.Context(), "tcp", "anything:9092")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := tr.DialContext(t.Context(), "tcp", "anything:9093"); err == nil {
		t.Error("a dial reached nobody")
	}
	if _, err := open(t, Options{}).DialContext(t.Context(), "tcp", a.Addr().String()); err == nil {
		t.Error("a dial reached another network")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listen(a.Addr().String())
	if err != nil {
		t.Fatalf("a closed address is not free: %v", err)
	}
	_ = again.Close()
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		tr, err := New(Options{})
		if err != nil {
			b.Fatal(err)
		}
		l, err := tr.Listen(b.Context(), core.ListenerConfig{Address: "b:0"}, &recorder{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
