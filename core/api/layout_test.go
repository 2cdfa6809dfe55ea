package api

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every request that kmsg can encode has exactly the layout that is declared for
// its key, in every version.
func TestLayoutsMatchKmsg(t *testing.T) {
	t.Parallel()
	s := newCluster(t).connect(t).server
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range s.endpoints {
		e := &s.endpoints[i]
		if e.serve == nil || e.layout == nil {
			continue
		}
		for v := e.min; v <= e.max; v++ {
			for range 50 {
				req := randomRequest(rng, e.key, v)
				body := req.AppendTo(nil)
				r := reader{b: body, flexible: req.IsFlexible()}
				if r.structure(e.layout, v); r.bad || len(r.b) != 0 {
					t.Fatalf("%s v%d: the layout leaves %d of %d bytes (bad: %v) of %+v", e.key.Name(), v, len(r.b), len(body), r.bad, req)
				}
				for cut := range body {
					if err := checkLayout(e.layout, body[:cut], v, req.IsFlexible()); !errors.Is(err, errProtocol) {
						t.Fatalf("%s v%d: %d of %d bytes pass: %v", e.key.Name(), v, cut, len(body), err)
					}
				}
			}
		}
	}
}

// A structure that may be null, in each of its forms.
func TestLayoutOfOptions(t *testing.T) {
	t.Parallel()
	layout := []field{option(text(), fixed(4)), fixed(1)}
	for _, tc := range []struct {
		body string
		ok   bool
	}{
		{"\xff\x07\x00", true},                          // null
		{"\x01\x02a\x00\x00\x00\x01\x00\x07\x00", true}, // there
		{"\x01\x02a\x00\x00\x00\x01\x00", false},        // cut off
		{"", false},
	} {
		if err := checkLayout(layout, []byte(tc.body), 0, true); (err == nil) != tc.ok {
			t.Errorf("%x: %v", tc.body, err)
		}
	}
}

// The two numbers that kmsg trusts: a tiny frame with an enormous one neither
// allocates nor takes long.
func TestEnormousNumbers(t *testing.T) {
	ss := newCluster(t).connect(t)
	header := func(key kmsg.Key, version int16) []byte {
		return frameOf(&rawRequest{key: key, version: version})
	}
	tags := binary.AppendUvarint(nil, 1<<32-1)
	claim := binary.BigEndian.AppendUint32(nil, 1<<31-1)
	big := make([]byte, 4<<20) // one byte for each claimed element
	for name, frame := range map[string][]byte{
		"tags of Metadata":      append(append(header(kmsg.Metadata, 12), 1, 0, 0), tags...),
		"tags of ApiVersions":   append(append(header(kmsg.ApiVersions, 3), 2, 'a', 2, 'a'), tags...),
		"tags of Fetch":         append(append(header(kmsg.Fetch, 12), make([]byte, 31)...), tags...),
		"topics of Metadata":    append(header(kmsg.Metadata, 1), claim...),
		"topics of ListOffsets": append(append(header(kmsg.ListOffsets, 1), 0, 0, 0, 0), claim...),
		"topics of Produce":     append(append(header(kmsg.Produce, 3), 0xff, 0xff, 0, 1, 0, 0, 0, 0), claim...),
		"topics of Fetch":       append(append(header(kmsg.Fetch, 4), make([]byte, 17)...), claim...),
		"topics in a large frame": append(append(append(header(kmsg.ListOffsets, 1), 0, 0, 0, 0),
			binary.BigEndian.AppendUint32(nil, 4<<20)...), big[:4<<20]...)[:20+(4<<20)],
		"too large for kmsg": append(header(kmsg.ListOffsets, 1), make([]byte, maxDecoded+1)...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := ss.Serve(t.Context(), frame, newWriter())
		runtime.ReadMemStats(&after)
		if !errors.Is(err, errProtocol) {
			t.Errorf("%s: Serve answered %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: allocated %d bytes", name, n)
		}
	}
}

// rawRequest is a header without a body.
type rawRequest struct {
	kmsg.Request
	key     kmsg.Key
	version int16
}

func (r *rawRequest) Key() int16             { return r.key.Int16() }
func (r *rawRequest) GetVersion() int16      { return r.version }
func (*rawRequest) AppendTo(b []byte) []byte { return b }
func (r *rawRequest) IsFlexible() bool {
	req := r.key.Request()
	req.SetVersion(r.version)
	return req.IsFlexible()
}
