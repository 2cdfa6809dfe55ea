package convert_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/transport/tcp"
)

// watched counts what is open.
type watched struct {
	core.Slice
	open *atomic.Int64
}

func (s *watched) Close() error {
	s.open.Add(-1)
	return s.Slice.Close()
}

// replier answers every request with 50 MB of converted batches.
type replier struct {
	t         *testing.T
	converter *convert.Converter
	batch     record.Batch
	open      atomic.Int64
}

func (r *replier) Open(context.Context, core.Peer) (core.ClientSession, error) { return r, nil }

func (*replier) Close() {}

func (r *replier) Serve(_ context.Context, _ []byte, w core.ReplyWriter) error {
	r.open.Add(1)
	batch := append(record.Batch(nil), r.batch...) // endless writes offsets into it
	src := &watched{&endless{batch, 50 << 20 / len(batch)}, &r.open}
	s, err := r.converter.Messages(src, convert.Request{Partition: id(1), Magic: 1})
	if err != nil {
		r.t.Error(err)
		return err
	}
	w.Reply(&core.Reply{Parts: []core.Part{{Bytes: []byte("head")}, {Slice: s}, {Bytes: []byte("tail")}}})
	return nil
}

// Converted messages go through a real connection as long as they were said to be;
// one that its client leaves in the middle gives everything back.
func TestSending(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	c, _ := newConverter(t, 1<<20)
	r := &replier{t: t, converter: c, batch: batchAt(t, tr, 0, 1, record.None, 100, 1000, 'a')}
	l, err := tcp.New(tcp.Options{}).Listen(t.Context(), core.ListenerConfig{
		Name: "PLAINTEXT", Address: "127.0.0.1:0", Protocol: "PLAINTEXT", MaxRequestBytes: 1 << 20, SendBuffer: -1, ReceiveBuffer: -1, Backlog: 50,
	}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, whole := range []bool{true, false} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte{0, 0, 0, 1, 'x'}); err != nil {
			t.Fatal(err)
		}
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			t.Fatal(err)
		}
		n := int64(binary.BigEndian.Uint32(size[:]))
		if whole {
			body := make([]byte, n)
			if _, err := io.ReadFull(conn, body); err != nil {
				t.Fatal(err)
			}
			if string(body[:4]) != "head" || string(body[n-4:]) != "tail" {
				t.Errorf("%q and %q around the messages", body[:4], body[n-4:])
			}
			// Each batch becomes larger by the messages' own headers: not all of them fit.
			if got := received(t, body[4:n-4], tr); len(got) < 40_000 || got[len(got)-1].Offset != int64(len(got)-1) {
				t.Errorf("%d messages in %d bytes", len(got), n)
			}
		} else if _, err := io.CopyN(io.Discard, conn, n/4); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Close waits for every connection.
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if n := r.open.Load(); n != 0 {
		t.Errorf("%d sources are left open", n)
	}
}
