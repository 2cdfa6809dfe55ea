package main

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// altered is the broker behind a proxy that alters its answers.
func (l *local) altered(alter func(kmsg.Response)) *local {
	l.t.Helper()
	var listen net.ListenConfig
	ln, err := listen.Listen(l.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	p := &proxy{to: l.seed, at: ln.Addr().(*net.TCPAddr), alter: alter} //nolint:forcetypeassert // it is one
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() { p.serve(l.t, conn) })
		}
	})
	l.t.Cleanup(func() {
		_ = ln.Close()
		served.Wait()
	})
	return &local{l.t, ln.Addr().String()}
}

type proxy struct {
	to    string
	at    *net.TCPAddr
	alter func(kmsg.Response)
}

// serve passes requests on, and answers back, until either side is closed.
func (p *proxy) serve(t *testing.T, client net.Conn) {
	defer func() { _ = client.Close() }()
	var dial net.Dialer
	broker, err := dial.DialContext(t.Context(), "tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = broker.Close() }()
	asked := make(chan kmsg.Request, 1000) // answers come in order
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = client.Close() }()
		for req := range asked {
			frame, err := readFrame(broker)
			if err != nil {
				return
			}
			if _, err := client.Write(p.answer(t, req, frame)); err != nil {
				return
			}
		}
	})
	for {
		frame, err := readFrame(client)
		if err != nil {
			break
		}
		req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(frame[4:])))
		req.SetVersion(int16(binary.BigEndian.Uint16(frame[6:])))
		asked <- req
		if _, err := broker.Write(frame); err != nil {
			break
		}
	}
	_ = broker.Close()
	close(asked)
	wg.Wait()
}

// readFrame reads a frame with its length.
func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// answer decodes an answer, alters it and encodes it again.
func (p *proxy) answer(t *testing.T, req kmsg.Request, frame []byte) []byte {
	resp := req.ResponseKind()
	head := 8
	switch {
	case resp.Key() == int16(kmsg.ApiVersions):
		return frame // of a version that may not be the request's
	case resp.IsFlexible():
		head++ // no tags
	}
	if err := resp.ReadFrom(frame[head:]); err != nil {
		t.Errorf("decode %T: %v", resp, err)
		return frame
	}
	host, port := p.at.IP.String(), int32(p.at.Port)
	switch resp := resp.(type) {
	case *kmsg.MetadataResponse:
		for i := range resp.Brokers {
			resp.Brokers[i].Host, resp.Brokers[i].Port = host, port
		}
	case *kmsg.FindCoordinatorResponse:
		resp.Host, resp.Port = host, port
		for i := range resp.Coordinators {
			resp.Coordinators[i].Host, resp.Coordinators[i].Port = host, port
		}
	}
	p.alter(resp)
	out := resp.AppendTo(frame[:head:head])
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// command is a command line against altered answers, and what comes of it.
type command struct {
	line  string
	alter func(kmsg.Response)
	out   string // of what it prints
	said  string // of what it says
}

// TestAlteredAnswers: where the answer for one of several is an error, or is missing, the
// others are shown, and the command fails with the reason.
func TestAlteredAnswers(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	for _, line := range []string{
		"topics create a b --partitions 1 --config retention.ms=5000", "groups reset-offsets g --topic a --topic b --to-earliest --execute",
		"groups reset-offsets h --topic a --to-earliest --execute",
	} {
		if code, said := b.run(strings.NewReader(""), io.Discard, strings.Fields(line)...); code != exitOK {
			t.Fatalf("millrace %s: %s", line, said)
		}
	}
	denied := kerr.TopicAuthorizationFailed.Code
	for _, c := range []command{
		{"topics describe", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeConfigsResponse); ok {
				r.Resources[0].ErrorCode, r.Resources[0].Configs = denied, nil
			}
		}, "Topic: b", "settings of topic a: TOPIC_AUTHORIZATION_FAILED"},
		{"topics describe", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeConfigsResponse); ok {
				r.Resources = r.Resources[1:]
			}
		}, "Configs: unknown", "settings of topic a: the answer leaves it out"},
		{"topics describe", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeConfigsResponse); ok {
				r.Resources[0].ErrorCode, r.Resources[0].Configs = denied, nil
			}
		}, "Configs: retention.ms=5000", "settings of topic a"},
		{"topics describe a b", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.ListOffsetsResponse); ok {
				for i := range r.Topics {
					if r.Topics[i].Topic == "a" {
						r.Topics[i].Partitions[0].ErrorCode = kerr.KafkaStorageError.Code
					}
				}
			}
		}, "Topic: b", "offsets of a-0: KAFKA_STORAGE_ERROR"},
		{"topics create c d", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.CreateTopicsResponse); ok {
				r.Topics = r.Topics[:1]
			}
		}, "Created topic c.", "topic d: the answer leaves it out"},
		{"topics alter a --partitions 2", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.CreatePartitionsResponse); ok {
				r.Topics = nil
			}
		}, "", "topic a: the answer leaves it out"},
		{"config alter --topic a --set retention.ms=6000", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.IncrementalAlterConfigsResponse); ok {
				r.Resources = nil
			}
		}, "", "the answer leaves it out"},
		{"groups describe g h", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeGroupsResponse); ok && r.Groups[0].Group == "g" {
				r.Groups[0].ErrorCode = kerr.GroupAuthorizationFailed.Code
			}
		}, "Group: h", "group g: GROUP_AUTHORIZATION_FAILED"},
		{"groups describe g h", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeGroupsResponse); ok && r.Groups[0].Group == "g" {
				r.Groups[0].ErrorCode = kerr.GroupAuthorizationFailed.Code
			}
		}, "Group: g", "group g: GROUP_AUTHORIZATION_FAILED"},
		{"groups reset-offsets g --topic a --to-current --execute", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.OffsetFetchResponse); ok {
				r.Groups[0].Topics[0].Partitions[0].ErrorCode = kerr.UnstableOffsetCommit.Code
			}
		}, "", "group g: UNSTABLE_OFFSET_COMMIT"},
		{"groups delete-offsets g --topic b", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.OffsetDeleteResponse); ok {
				r.Topics = nil
			}
		}, "", "b-0: group g: the answer leaves it out"},
		{"groups delete g h", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DeleteGroupsResponse); ok {
				r.Groups = slices.DeleteFunc(r.Groups, func(g kmsg.DeleteGroupsResponseGroup) bool { return g.Group == "g" })
			}
		}, "Deleted group h.", "group g: the answer leaves it out"},
		{"topics delete a b", func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DeleteTopicsResponse); ok {
				r.Topics = r.Topics[1:]
			}
		}, "Deleted topic b.", "topic a: the answer leaves it out"},
	} {
		var out strings.Builder
		code, said := b.altered(c.alter).run(strings.NewReader(""), &out, strings.Fields(c.line)...)
		if code != exitFailed || !strings.Contains(out.String(), c.out) || !strings.Contains(said, c.said) || c.out == "" && out.String() != "" {
			t.Errorf("millrace %s: exit code %d, printed\n%swithout %q, or said\n%swithout %q", c.line, code, out.String(), c.out, said, c.said)
		}
	}
}

// TestFirstGroup: the coordinator of the first group is waited for.
func TestFirstGroup(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	if code, said := b.run(strings.NewReader(""), io.Discard, "topics", "create", "t", "--partitions", "1"); code != exitOK {
		t.Fatal(said)
	}
	for line, want := range map[string]int{
		"groups reset-offsets g --topic t --to-earliest": exitOK, "groups delete g --if-exists": exitOK, "groups delete-offsets g --topic t:0": exitFailed,
	} {
		var left atomic.Int32
		left.Store(5)
		code, said := b.altered(func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.FindCoordinatorResponse); ok && left.Add(-1) >= 0 {
				for i := range r.Coordinators {
					r.Coordinators[i].ErrorCode = kerr.CoordinatorNotAvailable.Code
				}
			}
		}).run(strings.NewReader(""), io.Discard, strings.Fields(line)...)
		if code != want || strings.Contains(said, "COORDINATOR_NOT_AVAILABLE") {
			t.Errorf("millrace %s: exit code %d: %s", line, code, said)
		}
	}
}

// TestConsumeSinceUnknown: a time that cannot be found in a partition is no end of it.
func TestConsumeSinceUnknown(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	if code, said := b.run(strings.NewReader("x\n"), io.Discard, "produce", "t"); code != exitOK {
		t.Fatal(said)
	}
	for nth, words := range map[int32]string{1: "find the end of t-0: KAFKA_STORAGE_ERROR", 3: "find the time in t-0: KAFKA_STORAGE_ERROR"} {
		var listed atomic.Int32 // of the end, the start and the time
		var out strings.Builder
		code, said := b.altered(func(resp kmsg.Response) {
			if r, ok := resp.(*kmsg.ListOffsetsResponse); ok && listed.Add(1) == nth {
				r.Topics[0].Partitions[0].ErrorCode = kerr.KafkaStorageError.Code
			}
		}).run(strings.NewReader(""), &out, "consume", "t", "--since", "1h", "--exit-at-end")
		if code != exitFailed || out.String() != "" || !strings.Contains(said, words) {
			t.Errorf("answer %d: exit code %d: %s%s", nth, code, out.String(), said)
		}
	}
}

// TestResetNothing: --all-groups where there is none, and what failed is not "nothing".
func TestResetNothing(t *testing.T) {
	t.Parallel()
	b := newLocal(t)
	for line, words := range map[string]string{
		"groups reset-offsets --all-groups --from-file - --execute":    "no groups",
		"groups reset-offsets --all-groups --all-topics --to-earliest": "no groups",
		"groups reset-offsets g --topic nope --to-earliest":            "topic nope: UNKNOWN_TOPIC_OR_PARTITION",
	} {
		var out strings.Builder
		if code, said := b.run(strings.NewReader("t,0,5\n"), &out, strings.Fields(line)...); code != exitFailed || out.String() != "" || !strings.Contains(said, words) {
			t.Errorf("millrace %s: exit code %d: %s%s", line, code, out.String(), said)
		}
	}
	if code, said := b.run(strings.NewReader("# a plan\n\ng,t,0\n"), io.Discard, "groups", "reset-offsets", "g", "--from-file", "-"); code != exitUsage || !strings.Contains(said, "line 3") {
		t.Errorf("a bad plan: exit code %d: %s", code, said)
	}
}
