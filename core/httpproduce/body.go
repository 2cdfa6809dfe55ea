package httpproduce

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/millrace/millrace/core/record"
)

// The kinds of bodies.
const (
	typeJSON   = "application/json"
	typeBinary = "application/vnd.kafka.binary.v2+json"
	typeRaw    = "application/octet-stream"
)

// message is one record of a request.
type message struct {
	key, value []byte
	headers    []record.Header
	partition  int32 // unplaced when it names none
	timestamp  int64 // ms; noTimestamp when it names none
}

// most is more bytes than the message takes in a batch: its varints are counted as the
// longest ones.
func (m *message) most() int {
	const varint32, varint64, attributes = 5, 10, 1
	n := 5*varint32 + varint64 + attributes + len(m.key) + len(m.value)
	for i := range m.headers {
		n += 2*varint32 + len(m.headers[i].Key) + len(m.headers[i].Value)
	}
	return n
}

const (
	unplaced    int32 = -1
	noTimestamp int64 = -1
)

// errBody is in the chain of what is wrong with a request's body.
var errBody = errors.New("the request cannot be read")

// errType: the body is of a kind that is not understood.
var errType = fmt.Errorf("want Content-Type %s, %s or %s", typeJSON, typeBinary, typeRaw)

// readBody reads the records of a request.
func readBody(r *http.Request) ([]message, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, errType
	}
	switch kind {
	case typeJSON:
		return readJSON(r.Body, textOf)
	case typeBinary:
		return readJSON(r.Body, base64Of)
	case typeRaw:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		return []message{{key: queryKey(r.URL.Query()), value: body, partition: unplaced, timestamp: noTimestamp}}, nil
	default:
		return nil, errType
	}
}

func queryKey(q url.Values) []byte {
	if !q.Has("key") {
		return nil
	}
	return []byte(q.Get("key"))
}

// request is a JSON body. Its arrays are decoded one element at a time: elements.
type request struct {
	Records json.RawMessage `json:"records"`
}

type requestRecord struct {
	Key       json.RawMessage `json:"key"`
	Value     json.RawMessage `json:"value"`
	Partition *int32          `json:"partition"`
	Timestamp *int64          `json:"timestamp"`
	Headers   json.RawMessage `json:"headers"`
}

type requestHeader struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// maxElements bounds the records and headers of a request together: three bytes of JSON
// make one, which takes hundreds in memory.
const maxElements = 100_000

// errTooMany: a request has more than maxElements.
var errTooMany = fmt.Errorf("the request has more than %d records and headers; send fewer at a time", maxElements)

// elements decodes an array, which may be null, and takes what it has off left.
func elements[T any](raw json.RawMessage, left *int, use func(*T) error) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errors.New("want an array")
	}
	for dec.More() {
		if *left--; *left < 0 {
			return errTooMany
		}
		var v T
		if err := dec.Decode(&v); err != nil {
			return err
		}
		if err := use(&v); err != nil {
			return err
		}
	}
	return nil
}

// readJSON reads a JSON body. bytesOf makes bytes of a JSON value.
func readJSON(body io.Reader, bytesOf func(json.RawMessage) ([]byte, error)) ([]message, error) {
	var req request
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		return nil, fmt.Errorf("%w: something follows the JSON object", errBody)
	}
	var out []message
	left := maxElements
	err := elements(req.Records, &left, func(in *requestRecord) error {
		m, err := in.message(len(out), &left, bytesOf)
		out = append(out, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf(`%w: want {"records":[{"key":...,"value":...}]} with at least one record`, errBody)
	}
	return out, nil
}

// message is the record, the i-th of its request.
func (in *requestRecord) message(i int, left *int, bytesOf func(json.RawMessage) ([]byte, error)) (message, error) {
	m := message{partition: unplaced, timestamp: noTimestamp}
	var err error
	if m.key, err = bytesOf(in.Key); err != nil {
		return m, fmt.Errorf("the key of record %d: %w", i, err)
	}
	if m.value, err = bytesOf(in.Value); err != nil {
		return m, fmt.Errorf("the value of record %d: %w", i, err)
	}
	err = elements(in.Headers, left, func(h *requestHeader) error {
		v, err := bytesOf(h.Value)
		m.headers = append(m.headers, record.Header{Key: h.Key, Value: v})
		return err
	})
	if err != nil {
		return m, fmt.Errorf("the headers of record %d: %w", i, err)
	}
	if in.Partition != nil {
		if m.partition = *in.Partition; m.partition < 0 {
			return m, fmt.Errorf("record %d names partition %d", i, m.partition)
		}
	}
	if in.Timestamp != nil {
		if m.timestamp = *in.Timestamp; m.timestamp < 0 {
			return m, fmt.Errorf("record %d has the timestamp %d; want milliseconds since 1970", i, m.timestamp)
		}
	}
	return m, nil
}

// textOf: a string is its text, null none, anything else its JSON without spaces.
func textOf(raw json.RawMessage) ([]byte, error) {
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil, nil
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		return []byte(s), nil
	default:
		var out bytes.Buffer
		if err := json.Compact(&out, raw); err != nil {
			return nil, err
		}
		return out.Bytes(), nil
	}
}

// base64Of: a string is base64, null none.
func base64Of(raw json.RawMessage) ([]byte, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, errors.New("want a string of base64")
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err == nil && b == nil {
		b = []byte{} // empty is not null
	}
	return b, err
}
