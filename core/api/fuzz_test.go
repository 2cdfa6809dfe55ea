package api

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

// hastyClock's timers fire at once; its functions are never called.
type hastyClock struct{ core.SystemClock }

func (hastyClock) AfterFunc(time.Duration, func()) core.Timer { return &hastyTimer{} }

func (hastyClock) NewTimer(time.Duration) core.Timer {
	t := &hastyTimer{c: make(chan time.Time, 1)}
	t.Reset(0)
	return t
}

type hastyTimer struct{ c chan time.Time }

func (t *hastyTimer) C() <-chan time.Time { return t.c }

func (t *hastyTimer) Stop() bool {
	select {
	case <-t.c:
	default:
	}
	return true
}

func (t *hastyTimer) Reset(time.Duration) bool {
	t.Stop()
	t.c <- time.Time{}
	return true
}

// seeds are valid requests of every key and version.
func seeds(s *Server) [][]byte {
	rng := rand.New(rand.NewPCG(13, 14))
	var out [][]byte
	for i := range s.endpoints {
		e := &s.endpoints[i]
		if e.serve == nil {
			continue
		}
		for v := e.min; v <= e.max; v++ {
			for range 4 {
				out = append(out, frameOf(randomRequest(rng, e.key, v)))
			}
		}
	}
	for v := int16(produceMin); v <= produceMax; v++ {
		out = append(out, frameOf(produceTo(v, -1, "batch")))
	}
	for v := int16(fetchMin); v <= fetchMax; v++ {
		out = append(out, frameOf(fetchFrom(v)), frameOf(incremental(v, 1, 1)))
	}
	return out
}

// FuzzServe: whatever a client sends, a request is answered at most once, with
// what kmsg can read, or closes its connection; nothing panics or stays open.
func FuzzServe(f *testing.F) {
	c := newCluster(f)
	c.options.Clock = hastyClock{}
	c.options.AutoCreateTopics = true
	// Whoever asks for a coordinator does not wait for its topic: time stands still.
	c.cache.Update(func(im *metadata.Image) *metadata.Image {
		return im.With(1, 1, nil, []*metadata.Topic{offsetsTopic(50)})
	})
	for i, l := range c.leaders {
		l.batches, l.high = [][]byte{[]byte("one"), []byte(i.String())}, 2
	}
	ss := c.connect(f)
	for _, frame := range seeds(ss.server) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		frame = bytes.Clone(frame)
		defer func() {
			if n := c.open.Load(); n != 0 {
				t.Errorf("%d slices are left open", n)
			}
			for _, l := range c.leaders {
				l.requests, l.batches = nil, l.batches[:2]
				if len(l.waiters) != 0 || len(l.waits) != 0 {
					t.Errorf("%d waiters, %d callbacks are left", len(l.waiters), len(l.waits))
				}
			}
			c.created = nil
		}()
		w := newWriter()
		err := ss.Serve(t.Context(), frame, w)
		if err != nil {
			if len(w.given) != 0 {
				t.Errorf("a reply and an error: %v", err)
			}
			return
		}
		key, version := kmsg.Key(int16(frame[0])<<8|int16(frame[1])), int16(frame[2])<<8|int16(frame[3])
		if barrier := key != kmsg.Produce; barrier != (w.barriers == 1) {
			t.Errorf("%s waited %d times for earlier replies", key.Name(), w.barriers)
		}
		reply := <-w.given
		if reply == nil {
			if key != kmsg.Produce {
				t.Errorf("%s was not answered", key.Name())
			}
			return
		}
		req := key.Request()
		req.SetVersion(version)
		if key == kmsg.ApiVersions && version > 4 {
			req.SetVersion(0)
		}
		head := 4
		if req.IsFlexible() && key != kmsg.ApiVersions {
			head++
		}
		if err := req.ResponseKind().ReadFrom(reply[head:]); err != nil {
			t.Errorf("%s v%d: the response %x cannot be read: %v", key.Name(), version, reply, err)
		}
	})
}

// FuzzHeader: the header's parser stays inside the frame.
func FuzzHeader(f *testing.F) {
	ss := newCluster(f).connect(f)
	for _, frame := range seeds(ss.server) {
		f.Add(frame[:min(len(frame), 24)])
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, rest, err := parseHeader(frame, ss.server.flexibleFrom)
		if err == nil && len(h.clientID)+len(rest)+8 > len(frame) {
			t.Errorf("a client id of %d and a body of %d bytes in %d", len(h.clientID), len(rest), len(frame))
		}
	})
}
