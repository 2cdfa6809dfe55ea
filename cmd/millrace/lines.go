package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jsonRecord is a record as one line of JSON; produce --json reads what consume
// --json writes. Bytes that are not UTF-8 go into the _base64 fields.
type jsonRecord struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   *int32       `json:"partition,omitempty"`
	Offset      *int64       `json:"offset,omitempty"`
	Timestamp   *int64       `json:"timestamp,omitempty"` // ms since 1970
	Key         *string      `json:"key,omitempty"`
	KeyBase64   *string      `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 *string      `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value_base64,omitempty"`
}

// text splits bytes into what goes in the plain and in the base64 field.
func text(b []byte) (plain, encoded *string) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}

var errBoth = errors.New("give the text or the base64 form, not both")

// bytesOf is the inverse of text.
func bytesOf(plain, encoded *string) ([]byte, error) {
	switch {
	case plain != nil && encoded != nil:
		return nil, errBoth
	case plain != nil:
		return []byte(*plain), nil
	case encoded != nil:
		return base64.StdEncoding.DecodeString(*encoded)
	default:
		return nil, nil
	}
}

func toJSON(r *kgo.Record) ([]byte, error) {
	ms := r.Timestamp.UnixMilli()
	j := jsonRecord{Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset, Timestamp: &ms}
	j.Key, j.KeyBase64 = text(r.Key)
	j.Value, j.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		jh := jsonHeader{Key: h.Key}
		jh.Value, jh.ValueBase64 = text(h.Value)
		j.Headers = append(j.Headers, jh)
	}
	return json.Marshal(&j)
}

// errJSON: a line is JSON, and no record.
var errJSON = errors.New(`want an object such as {"key":"k","value":"v"}, as consume --json prints it; a value that is null is written out`)

// fromJSON reads a record; topic, partition and offset of the line are left aside. Names
// that a record does not have are refused, and so is a line without a value: it would be
// sent as a null, which deletes.
func fromJSON(line []byte) (*kgo.Record, error) {
	var j struct {
		jsonRecord
		Value json.RawMessage `json:"value"` // nil where there is none
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errJSON)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the object: %w", errJSON)
	}
	if j.Value == nil && j.ValueBase64 == nil {
		return nil, fmt.Errorf("no value: %w", errJSON)
	}
	if j.Value != nil {
		if err := json.Unmarshal(j.Value, &j.jsonRecord.Value); err != nil {
			return nil, fmt.Errorf("value: %w: %w", err, errJSON)
		}
	}
	r := &kgo.Record{}
	var err error
	if r.Key, err = bytesOf(j.Key, j.KeyBase64); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if r.Value, err = bytesOf(j.jsonRecord.Value, j.ValueBase64); err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	for _, jh := range j.Headers {
		v, err := bytesOf(jh.Value, jh.ValueBase64)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", jh.Key, err)
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: jh.Key, Value: v})
	}
	switch {
	case j.Timestamp == nil || *j.Timestamp == -1: // consume prints -1 of records from before Kafka 0.10
	case *j.Timestamp < -1:
		return nil, fmt.Errorf("timestamp %d: want ms since 1970", *j.Timestamp)
	default:
		r.Timestamp = time.UnixMilli(*j.Timestamp)
	}
	return r, nil
}

// lineFormat is how a plain line holds headers, key and value, as in Kafka's
// console producer and consumer: HEADERS<sep>KEY<sep>VALUE, HEADERS being
// name:value with commas between.
type lineFormat struct {
	key, headers bool
	separator    string
	null         string // stands for null where it is not empty
}

// field turns text into bytes, nil where it stands for null.
func (f *lineFormat) field(s string) []byte {
	if f.null != "" && s == f.null {
		return nil
	}
	return []byte(s)
}

func (f *lineFormat) parse(line string) (*kgo.Record, error) {
	r := &kgo.Record{}
	if f.headers {
		part, rest, ok := strings.Cut(line, f.separator)
		if !ok {
			return nil, fmt.Errorf("no separator %q after the headers", f.separator)
		}
		line = rest
		if err := f.parseHeaders(r, part); err != nil {
			return nil, err
		}
	}
	if f.key {
		part, rest, ok := strings.Cut(line, f.separator)
		if !ok {
			return nil, fmt.Errorf("no separator %q after the key", f.separator)
		}
		r.Key, line = f.field(part), rest
	}
	r.Value = f.field(line)
	return r, nil
}

func (f *lineFormat) parseHeaders(r *kgo.Record, s string) error {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(part, ":")
		if !ok {
			return fmt.Errorf("header %q: want name:value", part)
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: f.field(value)})
	}
	return nil
}
