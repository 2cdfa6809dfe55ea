package controller_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/transport/memory"
)

var errDown = errors.New("the broker is down")

// network carries the controllers' requests as Kafka frames over a faulty
// transport.
type network struct {
	c         *cluster
	transport *memory.Transport
	listeners []core.Listener
}

func address(id int32) string { return fmt.Sprintf("broker-%d:9092", id) }

func listener(addr string) core.ListenerConfig {
	return core.ListenerConfig{Name: "PLAINTEXT", Address: addr, Protocol: "PLAINTEXT", MaxRequestBytes: 1 << 20}
}

func newNetwork(c *cluster, brokers int, faults *memory.Faults) *network {
	c.t.Helper()
	tr, err := memory.New(memory.Options{Clock: core.SystemClock{}, Faults: faults})
	if err != nil {
		c.t.Fatal(err)
	}
	n := &network{c: c, transport: tr}
	for id := range int32(brokers) {
		l, err := tr.Listen(c.t.Context(), listener(address(id)), receiver{c, id})
		if err != nil {
			c.t.Fatal(err)
		}
		n.listeners = append(n.listeners, l)
	}
	return n
}

func (n *network) close() {
	for _, l := range n.listeners {
		if err := l.Close(); err != nil {
			n.c.t.Errorf("close a listener: %v", err)
		}
	}
}

// receiver is a broker's end: whatever process of the broker is the newest answers.
type receiver struct {
	c  *cluster
	id int32
}

func (r receiver) Open(context.Context, core.Peer) (core.ClientSession, error) { return r, nil }
func (r receiver) Close()                                                      {}

func (r receiver) Serve(ctx context.Context, frame []byte, w core.ReplyWriter) error {
	b := r.c.broker(r.id)
	if b == nil || get(b, func() bool { return b.down }) {
		return errDown
	}
	if err := w.Barrier(ctx); err != nil {
		return err
	}
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	correlation := frame[4:8]
	clientID := int(int16(binary.BigEndian.Uint16(frame[8:])))
	body := frame[10+max(0, clientID)+1:] // with an empty list of tags
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return err
	}
	resp := b.serve(req)
	resp.SetVersion(version)
	out := append([]byte(nil), correlation...)
	out = append(out, 0)
	w.Reply(&core.Reply{Parts: []core.Part{{Bytes: resp.AppendTo(out)}}})
	return nil
}

// remote is a controller's end: one connection to each broker, dialled again after
// a failure.
type remote struct {
	n      *network
	random func() float64

	mu    sync.Mutex
	conns map[int32]core.Conn
	next  int32
}

func (n *network) sender() *remote {
	r := rand.New(rand.NewPCG(n.c.random.Uint64(), 3))
	var mu sync.Mutex
	return &remote{n: n, conns: map[int32]core.Conn{}, random: func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}}
}

func (r *remote) Send(ctx context.Context, broker int32, req kmsg.Request) (kmsg.Response, error) {
	r.mu.Lock()
	conn := r.conns[broker]
	delete(r.conns, broker) // one request at a time; it comes back when it is whole
	r.next++
	correlation := r.next
	r.mu.Unlock()
	if conn == nil {
		var err error
		if conn, err = r.n.transport.Dial(ctx, address(broker), listener("")); err != nil {
			return nil, err
		}
	}
	resp, err := exchange(ctx, conn, req, correlation)
	// A connection may also break right after the answer.
	if err != nil || ctx.Err() != nil || r.random() < 0.05 {
		return resp, errors.Join(err, conn.Close())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns[broker] != nil {
		return resp, conn.Close()
	}
	r.conns[broker] = conn
	return resp, nil
}

func (r *remote) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close() // the other end may be gone
	}
}

func exchange(ctx context.Context, conn core.Conn, req kmsg.Request, correlation int32) (kmsg.Response, error) {
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("sim")).AppendRequest(nil, req, correlation)
	if err := conn.WriteFrame(ctx, core.Part{Bytes: frame[4:]}); err != nil {
		return nil, err
	}
	answer, err := conn.ReadFrame(ctx, nil)
	if err != nil {
		return nil, err
	}
	if got := int32(binary.BigEndian.Uint32(answer)); got != correlation {
		return nil, fmt.Errorf("answer %d to request %d", got, correlation)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	return resp, resp.ReadFrom(answer[5:])
}

// slow is a coordinator across a bad network: calls take time on their way there
// and back, events come late, and the outcome of some commits is never known.
type slow struct {
	core.Coordinator
	mu      sync.Mutex
	random  *rand.Rand
	most    time.Duration
	unknown float64
	record  func(session int64, ops []core.Op, commit func() ([]core.OpResult, error)) ([]core.OpResult, error)
}

func (c *slow) Open(ctx context.Context) (core.CoordinatorSession, error) {
	if c.float() < 0.3 { // the coordinator cannot be reached for a while
		select {
		case <-time.After(time.Duration(c.float() * float64(4*time.Second))):
		case <-ctx.Done():
		}
	}
	s, err := c.Coordinator.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &slowSession{s, c}, nil
}

// Close leaves the coordinator to the others.
func (c *slow) Close() error { return nil }

func (c *slow) float() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.Float64()
}

func (c *slow) delay(ctx context.Context) {
	t := time.NewTimer(time.Duration(c.float() * float64(c.most)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

type slowSession struct {
	core.CoordinatorSession
	c *slow
}

func (s *slowSession) Get(ctx context.Context, path string) (core.Node, error) {
	s.c.delay(ctx)
	defer s.c.delay(ctx)
	return s.CoordinatorSession.Get(ctx, path)
}

func (s *slowSession) Children(ctx context.Context, path string) ([]string, core.Stat, error) {
	s.c.delay(ctx)
	defer s.c.delay(ctx)
	return s.CoordinatorSession.Children(ctx, path)
}

func (s *slowSession) Commit(ctx context.Context, ops ...core.Op) ([]core.OpResult, error) {
	s.c.delay(ctx)
	defer s.c.delay(ctx)
	x := s.c.float()
	if x < s.c.unknown/2 {
		return nil, fmt.Errorf("lost on its way there: %w", core.ErrOutcomeUnknown)
	}
	res, err := s.c.record(s.ID(), ops, func() ([]core.OpResult, error) { return s.CoordinatorSession.Commit(ctx, ops...) })
	if x < s.c.unknown {
		return nil, fmt.Errorf("lost on its way back: %w", core.ErrOutcomeUnknown)
	}
	return res, err
}

func (s *slowSession) Watch(ctx context.Context, path string) (<-chan core.Event, error) {
	in, err := s.CoordinatorSession.Watch(ctx, path)
	if err != nil {
		return nil, err
	}
	out := make(chan core.Event, 1)
	go func() {
		defer close(out)
		for e := range in {
			s.c.delay(ctx)
			select {
			case out <- e:
			default: // one is waiting to be read: it stands for both
			}
		}
	}()
	return out, nil
}
