package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
)

// load is one way of using a server: connections that send the same request over
// and over with several in flight.
type load struct {
	conns    int
	inFlight int
	payload  int // bytes that one request moves
	// frame makes the request, with its length, for a connection.
	frame func(conn int) []byte
	// check looks at a response body.
	check func(body []byte) error
}

var errResponse = errors.New("unexpected response")

// run moves volume bytes and returns how long it took.
func (l *load) run(ctx context.Context, addr string, volume int64) (time.Duration, error) {
	requests := max(1, int(volume/int64(l.payload)/int64(l.conns)))
	conns := make([]net.Conn, l.conns)
	for i := range conns {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return 0, err
		}
		defer func() { _ = c.Close() }() // measured before
		conns[i] = c
	}
	errs := make(chan error, 2*l.conns)
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		slots := make(chan struct{}, l.inFlight)
		wg.Go(func() { errs <- l.send(ctx, c, l.frame(i), requests, slots) })
		wg.Go(func() { errs <- l.receive(c, requests, slots) })
	}
	wg.Wait()
	took := time.Since(start)
	close(errs)
	for err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

func (l *load) send(ctx context.Context, c net.Conn, frame []byte, requests int, slots chan<- struct{}) error {
	for n := range requests {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), c.Close())
		}
		binary.BigEndian.PutUint32(frame[8:], uint32(n))
		if _, err := c.Write(frame); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) receive(c net.Conn, requests int, slots <-chan struct{}) error {
	buf := make([]byte, l.payload+1<<20)
	for n := range requests {
		if _, err := io.ReadFull(c, buf[:8]); err != nil {
			return fmt.Errorf("response %d: %w", n, err)
		}
		size, correlation := int(binary.BigEndian.Uint32(buf)), int(binary.BigEndian.Uint32(buf[4:]))
		if correlation != n || size < 4 || size > len(buf) {
			return fmt.Errorf("response %d has correlation id %d and %d bytes: %w", n, correlation, size, errResponse)
		}
		body := buf[:size-4]
		if _, err := io.ReadFull(c, body); err != nil {
			return fmt.Errorf("response %d: %w", n, err)
		}
		if err := l.check(body); err != nil {
			return fmt.Errorf("response %d: %w", n, err)
		}
		<-slots
	}
	return nil
}

// batch is one record batch of about size bytes, with records of 1 KiB.
func batch(size int) ([]byte, error) {
	const recordSize = 1024
	value := make([]byte, recordSize-16)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	records := make([]record.Record, max(1, size/recordSize))
	for i := range records {
		records[i] = record.Record{OffsetDelta: int32(i), Value: value}
	}
	if size < recordSize {
		records[0].Value = value[:size-80]
	}
	return record.AppendBatch(nil, record.NewBatchInfo(0, time.Now().UnixMilli()), records, nil)
}

// request makes the frame of a request.
func request(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 0)
}

const (
	produceVersion = 9
	fetchVersion   = 11
)

// produceLoad sends batches to one partition for each connection.
func produceLoad(topic string, size, conns int) (*load, error) {
	b, err := batch(size)
	if err != nil {
		return nil, err
	}
	parts := make([]kmsg.ProduceRequestTopicPartition, conns)
	for i := range parts {
		parts[i] = kmsg.ProduceRequestTopicPartition{Partition: int32(i), Records: b}
	}
	return produceTo(topic, parts, conns), nil
}

// produceTo sends the partitions' batches, each over a connection of its own, or all of
// them over the only one.
func produceTo(topic string, parts []kmsg.ProduceRequestTopicPartition, conns int) *load {
	each := len(parts) / conns
	return &load{
		conns: conns, inFlight: 5, payload: each * len(parts[0].Records),
		frame: func(conn int) []byte {
			req := kmsg.NewPtrProduceRequest()
			req.SetVersion(produceVersion)
			req.Acks, req.TimeoutMillis = -1, 30_000
			req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: parts[conn*each : (conn+1)*each]}}
			return request(req)
		},
		check: func(body []byte) error {
			var resp kmsg.ProduceResponse
			resp.SetVersion(produceVersion)
			if err := resp.ReadFrom(body[1:]); err != nil { // after the header's tags
				return err
			}
			for _, p := range resp.Topics[0].Partitions {
				if p.ErrorCode != 0 {
					return fmt.Errorf("error code %d: %w", p.ErrorCode, errResponse)
				}
			}
			return nil
		},
	}
}

// fetchLoad reads size bytes at offset 0 again and again.
func fetchLoad(topic string, size, conns, partitions int) *load {
	return &load{
		conns: conns, inFlight: 2, payload: size,
		frame: func(conn int) []byte {
			req := kmsg.NewPtrFetchRequest()
			req.SetVersion(fetchVersion)
			req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 500, 1, 100<<20
			req.SessionID, req.SessionEpoch = 0, -1
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.PartitionMaxBytes, p.CurrentLeaderEpoch = int32(conn%partitions), int32(size), -1
			req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
			return request(req)
		},
		check: func(body []byte) error {
			if len(body) < size*9/10 {
				return fmt.Errorf("%d bytes, too few: %w", len(body), errResponse)
			}
			return nil
		},
	}
}

// smallLoad asks for ApiVersions: the cost of the request loop.
func smallLoad(conns, inFlight int) *load {
	return &load{
		conns: conns, inFlight: inFlight, payload: 1,
		frame: func(int) []byte {
			req := kmsg.NewPtrApiVersionsRequest()
			req.SetVersion(0)
			return request(req)
		},
		check: func(body []byte) error {
			if len(body) < 6 || body[0] != 0 || body[1] != 0 {
				return errResponse
			}
			return nil
		},
	}
}
