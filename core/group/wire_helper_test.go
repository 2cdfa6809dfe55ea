package group_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// wire is a client of one connection that sends what it is told, correct or not.
type wire struct {
	t    testing.TB
	conn net.Conn
	n    int32
	buf  []byte
}

func dial(ctx context.Context, t testing.TB, b *brokertest.Broker) *wire {
	t.Helper()
	conn, err := b.DialContext(ctx, "tcp", b.Seed())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &wire{t: t, conn: conn}
}

// frame is a request as it goes over the connection.
func (w *wire) frame(req kmsg.Request) []byte {
	w.n++
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire")).AppendRequest(w.buf[:0], req, w.n)
}

// roundTrip sends a request and reads its response.
func (w *wire) roundTrip(req kmsg.Request) (kmsg.Response, error) {
	w.buf = w.frame(req)
	if _, err := w.conn.Write(w.buf); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != w.n {
		return nil, fmt.Errorf("correlation id %d, want %d", got, w.n)
	}
	body = body[4:]
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && req.Key() != 18 {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("decode %T v%d: %w", resp, req.GetVersion(), err)
	}
	return resp, nil
}

// ask is roundTrip for requests that must be answered.
func ask[R kmsg.Response](w *wire, req kmsg.Request) R {
	w.t.Helper()
	resp, err := w.roundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	r, ok := resp.(R)
	if !ok {
		w.t.Fatalf("a response of type %T", resp)
	}
	return r
}

func joinOf(groupID, id string, instance *string, metadata []byte) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID = 9, groupID, id, instance
	req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "consumer", 300_000, 300_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", metadata
	req.Protocols = append(req.Protocols, p)
	return req
}

func subscribed(topics ...string) []byte {
	s := kmsg.NewConsumerMemberMetadata()
	s.Topics = topics
	return s.AppendTo(nil)
}

func syncOf(groupID, id string, generation int32) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 5, groupID, id, generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	return req
}

func assignTo(req *kmsg.SyncGroupRequest, id string, assignment []byte) {
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = id, assignment
	req.GroupAssignment = append(req.GroupAssignment, a)
}

func beatOf(groupID, id string, generation int32) *kmsg.HeartbeatRequest {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, groupID, id, generation
	return req
}

func commitOf(groupID, id string, generation int32, topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 8, groupID, id, generation
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// enterGroup makes w a member, or joins again with the id; the coordinator may have to
// be created first.
func (w *wire) enterGroup(groupID, id string, instance *string, metadata []byte) *kmsg.JoinGroupResponse {
	w.t.Helper()
	for range 6000 { // two minutes
		resp := ask[*kmsg.JoinGroupResponse](w, joinOf(groupID, id, instance, metadata))
		switch resp.ErrorCode {
		case 0:
			return resp
		case kerr.MemberIDRequired.Code:
			id = resp.MemberID
		case kerr.NotCoordinator.Code, kerr.CoordinatorNotAvailable.Code, kerr.CoordinatorLoadInProgress.Code:
			find := kmsg.NewPtrFindCoordinatorRequest()
			find.Version, find.CoordinatorKey = 3, groupID
			ask[*kmsg.FindCoordinatorResponse](w, find)
			time.Sleep(20 * time.Millisecond)
		default:
			w.t.Fatalf("join %s: %v", groupID, kerr.ErrorForCode(resp.ErrorCode))
		}
	}
	w.t.Fatalf("%s has no coordinator", groupID)
	return nil
}

// settleAlone makes w the only member of a group and returns its id; generation 1.
func (w *wire) settleAlone(groupID string, instance *string, metadata []byte) string {
	w.t.Helper()
	joined := w.enterGroup(groupID, "", instance, metadata)
	req := syncOf(groupID, joined.MemberID, joined.Generation)
	assignTo(req, joined.MemberID, []byte("assigned"))
	if resp := ask[*kmsg.SyncGroupResponse](w, req); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "assigned" {
		w.t.Fatalf("sync: %+v", resp)
	}
	return joined.MemberID
}

func createTopic(t testing.TB, w *wire, topic string, partitions int32) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 5, 60_000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
	req.Topics = append(req.Topics, rt)
	if code := ask[*kmsg.CreateTopicsResponse](w, req).Topics[0].ErrorCode; code != 0 {
		t.Fatalf("create %s: %v", topic, kerr.ErrorForCode(code))
	}
}
