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

// request is a JSON body.
type request struct {
	Records []struct {
		Key       json.RawMessage `json:"key"`
		Value     json.RawMessage `json:"value"`
		Partition *int32          `json:"partition"`
		Timestamp *int64          `json:"timestamp"`
		Headers   []struct {
			Key   string          `json:"key"`
			Value json.RawMessage `json:"value"`
		} `json:"headers"`
	} `json:"records"`
}

// readJSON reads a JSON body. bytesOf makes bytes of a JSON value.
func readJSON(body io.Reader, bytesOf func(json.RawMessage) ([]byte, error)) ([]message, error) {
	var req request
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%w: something follows the JSON object", errBody)
	}
	if len(req.Records) == 0 {
		return nil, fmt.Errorf(`%w: want {"records":[{"key":...,"value":...}]} with at least one record`, errBody)
	}
	out := make([]message, len(req.Records))
	for i, in := range req.Records {
		m := &out[i]
		m.partition, m.timestamp = unplaced, noTimestamp
		var err error
		if m.key, err = bytesOf(in.Key); err != nil {
			return nil, fmt.Errorf("%w: the key of record %d: %w", errBody, i, err)
		}
		if m.value, err = bytesOf(in.Value); err != nil {
			return nil, fmt.Errorf("%w: the value of record %d: %w", errBody, i, err)
		}
		for _, h := range in.Headers {
			v, err := bytesOf(h.Value)
			if err != nil {
				return nil, fmt.Errorf("%w: the header %q of record %d: %w", errBody, h.Key, i, err)
			}
			m.headers = append(m.headers, record.Header{Key: h.Key, Value: v})
		}
		if in.Partition != nil {
			if m.partition = *in.Partition; m.partition < 0 {
				return nil, fmt.Errorf("%w: record %d names partition %d", errBody, i, m.partition)
			}
		}
		if in.Timestamp != nil {
			if m.timestamp = *in.Timestamp; m.timestamp < 0 {
				return nil, fmt.Errorf("%w: record %d has the timestamp %d; want milliseconds since 1970", errBody, i, m.timestamp)
			}
		}
	}
	return out, nil
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
