package classic

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// walk drives a group with requests that are made from bytes, correct or not, and
// checks after each that the group is sound, at the end that it comes to rest by
// itself, and that every request was answered once.
type walk struct {
	*scene
	in       []byte
	ids      []string // that were handed out, for requests that mean a member
	requests int      // that reply through a function
	answers  int
	newest   int32
}

func (w *walk) byte() byte {
	if len(w.in) == 0 {
		return 0
	}
	b := w.in[0]
	w.in = w.in[1:]
	return b
}

// id is one that was handed out before, seldom another.
func (w *walk) id() string {
	b := int(w.byte())
	if b < 16 || len(w.ids) == 0 {
		return []string{"", "who", "client-1", "\xff\x00"}[b%4]
	}
	return w.ids[len(w.ids)-1-b%min(len(w.ids), 8)]
}

func (w *walk) instance() *string {
	switch b := w.byte() % 8; b {
	case 0, 1, 2:
		id := string(rune('i' + b))
		return &id
	default:
		return nil
	}
}

func (w *walk) generation() int32 {
	if b := w.byte(); b < 32 {
		return int32(b) - 16
	}
	return w.g.Generation()
}

// blob is garbage of any length, or a subscription.
func (w *walk) blob() []byte {
	n := int(w.byte() % 16)
	if n > 12 {
		return []byte(subscription("topic"))
	}
	n = min(n, len(w.in))
	b := append([]byte(nil), w.in[:n]...)
	w.in = w.in[n:]
	return b
}

func (w *walk) step() {
	switch op := w.byte() % 16; op {
	case 0, 1, 2, 3, 4:
		w.join()
	case 5, 6, 7:
		w.sync()
	case 8, 9:
		req := kmsg.NewHeartbeatRequest()
		req.MemberID, req.InstanceID, req.Generation = w.id(), w.instance(), w.generation()
		w.g.Heartbeat(w.now, &req)
	case 10:
		req := kmsg.NewLeaveGroupRequest()
		for range w.byte() % 4 {
			req.Members = append(req.Members, leaver(w.id(), w.instance()))
		}
		w.g.Leave(w.now, &req)
	case 11:
		w.g.ValidateCommit(w.now, w.id(), w.instance(), w.generation(), w.byte()%2 == 0)
	case 12, 13:
		w.pass(time.Duration(w.byte()) * 200 * time.Millisecond)
	case 14:
		if w.hold = !w.hold; !w.hold {
			w.settle([]int16{0, 0, codeTimedOut, codeNotLeader}[w.byte()%4])
		}
	case 15:
		w.odd()
	}
}

// odd is what happens seldom.
func (w *walk) odd() {
	switch move := w.byte() % 5; move {
	case 1:
		if w.fail != 0 {
			w.fail = 0
		} else {
			w.fail = codeNotEnough
		}
	case 0, 2: // the coordinator moves, of a group that was handed over if it is 0
		w.g.Unload(codeNotCoordinator)
		w.checkAnswered()
		w.pending, w.newest = nil, 0
		w.g = New("g", w.g.settings, w, w.now)
		if n := len(w.stored); n > 0 {
			v := w.stored[n-1]
			if move == 0 {
				v.Leader = nil
			}
			w.g.Restore(&v, w.now)
		}
	default:
		w.g.Describe()
		w.g.Subscribed("topic")
	}
}

func (w *walk) join() {
	req := kmsg.NewJoinGroupRequest()
	req.Version = int16(w.byte() % 10)
	req.MemberID, req.InstanceID = w.id(), w.instance()
	req.ProtocolType = []string{consumerProtocol, consumerProtocol, consumerProtocol, "connect", ""}[w.byte()%5]
	req.SessionTimeoutMillis = int32(w.byte()) * 200
	req.RebalanceTimeoutMillis = int32(w.byte())*200 - 1000
	for range w.byte() % 4 {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = string([]rune{'a' + rune(w.byte()%3)}), w.blob()
		req.Protocols = append(req.Protocols, p)
	}
	w.requests++
	answered := false
	w.g.Join(w.now, Caller{"client", "/host"}, &req, func(resp *kmsg.JoinGroupResponse) {
		w.answered(&answered)
		resp.AppendTo(nil)
		if resp.MemberID != "" {
			w.ids = append(w.ids, resp.MemberID)
		}
		if resp.ErrorCode == 0 && resp.Generation != w.g.Generation() {
			w.t.Fatalf("a join into generation %d, the group has %d", resp.Generation, w.g.Generation())
		}
	})
}

func (w *walk) sync() {
	req := kmsg.NewSyncGroupRequest()
	req.Version = int16(w.byte() % 6)
	req.MemberID, req.InstanceID, req.Generation = w.id(), w.instance(), w.generation()
	if w.byte()%2 == 0 {
		req.MemberID = w.g.leader
	}
	for range w.byte() % 4 {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = w.id(), w.blob()
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	w.requests++
	answered := false
	w.g.Sync(w.now, &req, func(resp *kmsg.SyncGroupResponse) {
		w.answered(&answered)
		resp.AppendTo(nil)
	})
}

func (w *walk) answered(before *bool) {
	if *before {
		w.t.Fatal("a request is answered twice")
	}
	*before = true
	w.answers++
}

func (w *walk) checkAnswered() {
	w.t.Helper()
	if w.answers != w.requests {
		w.t.Fatalf("%d requests, %d answers", w.requests, w.answers)
	}
}

func runWalk(t testing.TB, in []byte) {
	s := newScene(t, func(s *Settings) {
		s.MaxSize = 4
		if len(in) > 0 && in[0]%2 == 0 {
			s.InitialRebalanceDelay = 3 * time.Second
		}
	})
	w := &walk{scene: s, in: in}
	for len(w.in) > 0 {
		w.step()
		checkInvariants(t, w.g)
		if w.g.Generation() < w.newest {
			t.Fatalf("generation %d after %d", w.g.Generation(), w.newest)
		}
		w.newest = w.g.Generation()
	}
	// Nobody says anything any more: sooner or later everybody is out, and answered.
	w.hold, w.fail = false, 0
	w.settle(0)
	w.pass(2 * time.Hour)
	if w.g.State() != Empty || !w.g.Idle() {
		t.Fatalf("the group does not come to rest: %v", w.g.State())
	}
	w.checkAnswered()
	w.stable(2)
}

// FuzzGroup looks for sequences of requests that upset a group. Its seeds are sequences
// of their own; random ones run in TestRandomRequests.
func FuzzGroup(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		f.Add(randomBytes(r, 300))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4096 {
			return
		}
		runWalk(t, in)
	})
}

func TestRandomRequests(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range 2000 {
		runWalk(t, randomBytes(r, 1500))
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
