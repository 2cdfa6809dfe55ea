package httpproduce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// Options are what New takes.
type Options struct {
	// Leader finds a partition that this broker leads.
	Leader func(topic string, partition int32) (replica.Leader, error)
	// Metadata is the broker's view of the cluster.
	Metadata *metadata.Cache
	// Partitioner makes the partitioner of a name.
	Partitioner func(ctx context.Context, name string) (core.Partitioner, error)
	// TopicPartitioner is the partitioner that a topic's settings name; empty for none.
	TopicPartitioner func(topic string) string
	// MaxBatch is a topic's max.message.bytes.
	MaxBatch func(topic string) int
	// Refused reports whether clients may not produce to a topic.
	Refused func(topic string) bool
	Clock   core.Clock
	Log     *slog.Logger
	// MaxBytes bounds a request's body.
	MaxBytes int64
	// Timeout bounds the wait for replicas.
	Timeout time.Duration
}

// DefaultPartitioner places the records of topics that name none.
const DefaultPartitioner = "murmur2"

// Handler serves POST /topics/{topic}/records. Make it with New. Safe for concurrent
// use.
type Handler struct {
	o      Options
	origin *http.CrossOriginProtection

	mu        sync.Mutex
	producers map[string]*producer // by partitioner
}

// producer is a partitioner, which one request uses at a time.
type producer struct {
	mu sync.Mutex
	p  core.Partitioner
}

// New makes a Handler.
func New(o Options) *Handler {
	return &Handler{o: o, origin: http.NewCrossOriginProtection(), producers: map[string]*producer{}}
}

// Pattern is where the handler belongs in an http.ServeMux.
const Pattern = "POST /topics/{topic}/records"

// result is what became of one record.
type result struct {
	Partition *int32 `json:"partition,omitempty"`
	Offset    *int64 `json:"offset,omitempty"`
	Error     string `json:"error,omitempty"` // Kafka's name
	Code      int16  `json:"code,omitempty"`
	Message   string `json:"message,omitempty"`
}

type reply struct {
	Records []result `json:"records"`
}

// ServeHTTP implements http.Handler. A request from another site's page is refused.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.origin.Check(r); err != nil {
		refuse(w, http.StatusForbidden, err.Error())
		return
	}
	acks, err := acksOf(r.URL.Query().Get("acks"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, h.o.MaxBytes)
	messages, err := readBody(r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("The request has more than the %d bytes of http.produce.max.bytes; send fewer records at a time.", tooLarge.Limit))
		return
	case errors.Is(err, errTooMany):
		refuse(w, http.StatusRequestEntityTooLarge, err.Error())
		return
	case errors.Is(err, errType):
		refuse(w, http.StatusUnsupportedMediaType, err.Error())
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.o.Timeout)
	defer cancel()
	results := h.produce(ctx, r.PathValue("topic"), messages, acks)
	answer(w, overall(results), reply{results})
}

func acksOf(s string) (replica.Acks, error) {
	switch s {
	case "", "all", "-1":
		return replica.AcksAll, nil
	case "1":
		return replica.AcksLeader, nil
	default:
		return 0, fmt.Errorf("acks=%s: want all or 1", s)
	}
}

// refuse answers a request of which nothing was done.
func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, struct {
		Message string `json:"message"`
	}{message})
}

func answer[T any](w http.ResponseWriter, status int, v T) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone; nobody else cares
}

// overall is the status of an answer.
func overall(results []result) int {
	good, first := 0, int16(0)
	for _, r := range results {
		if r.Code == 0 {
			good++
		} else if first == 0 {
			first = r.Code
		}
	}
	switch {
	case first == 0:
		return http.StatusOK
	case good > 0:
		return http.StatusMultiStatus
	default:
		return status(first)
	}
}

// status is what Kafka's error code means in HTTP.
func status(code int16) int {
	switch code {
	case kerr.UnknownTopicOrPartition.Code, kerr.UnknownTopicID.Code:
		return http.StatusNotFound
	case kerr.TopicAuthorizationFailed.Code, kerr.ClusterAuthorizationFailed.Code:
		return http.StatusForbidden
	case kerr.MessageTooLarge.Code, kerr.RecordListTooLarge.Code:
		return http.StatusRequestEntityTooLarge
	case kerr.InvalidRecord.Code, kerr.CorruptMessage.Code, kerr.InvalidTimestamp.Code, kerr.InvalidTopicException.Code,
		kerr.InvalidRequest.Code, kerr.UnsupportedCompressionType.Code:
		return http.StatusUnprocessableEntity
	case kerr.NotLeaderForPartition.Code:
		return http.StatusMisdirectedRequest
	case kerr.LeaderNotAvailable.Code, kerr.NotEnoughReplicas.Code, kerr.NotEnoughReplicasAfterAppend.Code, kerr.KafkaStorageError.Code:
		return http.StatusServiceUnavailable
	case kerr.RequestTimedOut.Code:
		return http.StatusGatewayTimeout
	case kerr.ThrottlingQuotaExceeded.Code:
		return http.StatusTooManyRequests
	default:
		return http.StatusInternalServerError
	}
}

// failed makes the result of a record that is not in the log, as far as is known.
func failed(err error) result {
	code, message := core.KafkaCode(err)
	name := "UNKNOWN_SERVER_ERROR"
	var ke *kerr.Error
	if errors.As(kerr.ErrorForCode(code), &ke) {
		name = ke.Message
	}
	return result{Error: name, Code: code, Message: message}
}
