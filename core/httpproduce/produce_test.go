package httpproduce_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/httpproduce"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// leader is a partition that keeps what is appended.
type leader struct {
	replica.Leader // what the handler does not call
	await          func(done func(error))
	refused        []replica.RecordError // nothing is appended where there are some
	batches        int
	values         []string
	waited         int
}

func (l *leader) Append(_ context.Context, r replica.AppendRequest) (replica.AppendResult, error) {
	b, err := record.SingleBatch(r.Batches)
	if err != nil {
		return replica.AppendResult{}, err
	}
	if l.refused != nil {
		return replica.AppendResult{RecordErrors: l.refused}, core.Failf(kerr.InvalidRecord.Code, "One or more records have been rejected.")
	}
	if len(b) > maxBatch {
		return replica.AppendResult{}, core.Failf(kerr.MessageTooLarge.Code, "too large")
	}
	l.batches++
	base := int64(len(l.values))
	for rd := record.NewReader(b, b.Payload()); rd.Next(); {
		l.values = append(l.values, string(rd.View().Value))
	}
	res := replica.AppendResult{Base: base}
	if r.Acks == replica.AcksAll {
		res.Wait = int64(len(l.values))
	}
	return res, nil
}

func (l *leader) Await(_ int64, _ int32, done func(error)) func() {
	l.waited++
	l.await(done)
	return func() {}
}

// maxBatch is the max.message.bytes of the tests' topic.
const maxBatch = 1000

// places answers the first byte of a value as its partition; p panics once.
type places struct{ panicked *bool }

func (p places) Partition(_ context.Context, _ core.TopicInfo, rs []core.RecordView, out []int32) error {
	for i := range rs {
		if rs[i].Value[0] == 'p' && !*p.panicked {
			*p.panicked = true
			panic("no idea")
		}
		out[i] = int32(rs[i].Value[0]) - '0'
	}
	return nil
}

// post makes a handler over two partitions, and a function that posts values to it.
func post(t *testing.T, await func(done func(error))) ([]*leader, func(query string, values ...string) (int, string)) {
	t.Helper()
	cache := metadata.NewCache("c")
	cache.Update(func(*metadata.Image) *metadata.Image {
		return metadata.NewImage("c", 1, 1, nil, []*metadata.Topic{{Name: "t", Partitions: []metadata.Partition{{Leader: 1}, {Leader: 1}}}})
	})
	ls := []*leader{{await: await}, {await: await}}
	panicked := false
	h := httpproduce.New(httpproduce.Options{
		Leader:           func(_ string, p int32) (replica.Leader, error) { return ls[p], nil },
		Metadata:         cache,
		Partitioner:      func(context.Context, string) (core.Partitioner, error) { return places{&panicked}, nil },
		TopicPartitioner: func(string) string { return "p" },
		Refused:          func(string) bool { return false },
		MaxBatch:         func(string) int { return maxBatch },
		Clock:            core.SystemClock{}, Log: slog.New(slog.DiscardHandler), MaxBytes: 1 << 20, Timeout: time.Minute,
	})
	mux := http.NewServeMux()
	mux.Handle(httpproduce.Pattern, h)
	return ls, func(query string, values ...string) (int, string) {
		var parts []string
		for _, v := range values {
			parts = append(parts, fmt.Sprintf(`{"value":%q}`, v))
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/topics/t/records"+query, strings.NewReader(`{"records":[`+strings.Join(parts, ",")+`]}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code, strings.TrimSpace(w.Body.String())
	}
}

// TestSplits: the records of a request go to their partitions in order, and the answer is
// in the request's order.
func TestSplits(t *testing.T) {
	t.Parallel()
	ls, send := post(t, func(done func(error)) { done(nil) })
	code, body := send("", "1a", "0b", "1c", "0d")
	want := `{"records":[{"partition":1,"offset":0},{"partition":0,"offset":0},{"partition":1,"offset":1},{"partition":0,"offset":1}]}`
	if code != http.StatusOK || body != want {
		t.Errorf("%d %s", code, body)
	}
	if fmt.Sprint(ls[0].values, ls[1].values) != "[0b 0d] [1a 1c]" {
		t.Errorf("logs %v %v", ls[0].values, ls[1].values)
	}
}

// TestAcks: all waits for the replicas and says what becomes of that; 1 does not wait.
func TestAcks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testAcks) // the time-out passes at once
}

func testAcks(t *testing.T) {
	never := func(func(error)) {}
	ls, send := post(t, never)
	if code, body := send("?acks=1", "0a"); code != http.StatusOK || ls[0].waited != 0 {
		t.Errorf("acks=1: %d %s", code, body)
	}
	if code, body := send("?acks=all", "0a"); code != http.StatusGatewayTimeout || !strings.Contains(body, "REQUEST_TIMED_OUT") || ls[0].waited != 1 {
		t.Errorf("acks=all, no replica: %d %s", code, body)
	}
	_, send = post(t, func(done func(error)) { done(core.Failf(kerr.NotLeaderForPartition.Code, "gone")) })
	if code, body := send("", "0a"); code != http.StatusMisdirectedRequest || !strings.Contains(body, "NOT_LEADER") {
		t.Errorf("leadership lost: %d %s", code, body)
	}
}

// TestBatches: what is too much for one batch becomes several, in order; a record that is too
// large by itself is refused, and what is behind it is not tried.
func TestBatches(t *testing.T) {
	t.Parallel()
	ls, send := post(t, func(done func(error)) { done(nil) })
	var values []string
	for i := range 40 {
		values = append(values, fmt.Sprintf("0%02d%s", i, strings.Repeat("x", 100)))
	}
	if code, body := send("", values...); code != http.StatusOK || !strings.HasSuffix(body, `{"partition":0,"offset":39}]}`) {
		t.Errorf("%d %s", code, body)
	}
	if got := ls[0]; fmt.Sprint(got.values) != fmt.Sprint(values) || got.batches < 5 || got.waited != got.batches {
		t.Errorf("%d batches, %d waited for, have %v", got.batches, got.waited, got.values)
	}
	code, body := send("", "1a", "1"+strings.Repeat("x", maxBatch), "1c")
	if code != http.StatusMultiStatus || fmt.Sprint(ls[1].values) != "[1a]" || !strings.Contains(body, `{"partition":1,"offset":0}`) || !strings.Contains(body, "not tried") {
		t.Errorf("one too large: %d %s, log %v", code, body, ls[1].values)
	}
}

// TestRefused: each record of a batch that is refused is told why, its own reason where there
// is one; those of other partitions are in the log.
func TestRefused(t *testing.T) {
	t.Parallel()
	ls, send := post(t, func(done func(error)) { done(nil) })
	ls[1].refused = []replica.RecordError{{Index: 2, Message: "third"}, {Index: 0, Message: "first"}, {Index: 3, Message: "none"}, {Index: -1, Message: "none"}}
	code, body := send("", "1a", "0b", "1c", "1d")
	refused := func(message string) string {
		return fmt.Sprintf(`{"partition":1,"error":"INVALID_RECORD","code":87,"message":%q}`, message)
	}
	want := `{"records":[` + refused("first") + `,{"partition":0,"offset":0},` + refused("One or more records have been rejected.") + `,` + refused("third") + `]}`
	if code != http.StatusMultiStatus || body != want {
		t.Errorf("%d %s\nwant %s", code, body, want)
	}
}

// TestPartitionerErrs: an answer out of range and a panic append nothing, and the next
// request is served.
func TestPartitionerErrs(t *testing.T) {
	t.Parallel()
	ls, send := post(t, func(done func(error)) { done(nil) })
	if code, body := send("", "0a", "7b"); code != http.StatusInternalServerError || len(ls[0].values) != 0 {
		t.Errorf("out of range: %d %s, log %v", code, body, ls[0].values)
	}
	func() {
		defer func() {
			if recover() == nil { // net/http ends the request with it
				t.Error("no panic")
			}
		}()
		send("", "p")
	}()
	if code, body := send("", "0a"); code != http.StatusOK {
		t.Errorf("after a panic: %d %s", code, body)
	}
}
