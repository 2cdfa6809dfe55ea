package record

import (
	"errors"
	"fmt"
)

// View is one record as it lies in the records of a batch. Its slices are
// borrowed from there. Headers are not decoded until asked for.
type View struct {
	// Attributes has no bit in use.
	Attributes int8
	// OffsetDelta and TimestampDelta (ms) count from the batch's base offset and
	// first timestamp.
	OffsetDelta    int32
	TimestampDelta int64
	// Key and Value; nil is null.
	Key, Value []byte

	headerCount int32
	headers     []byte
}

// HeaderView is one header of a record. Both slices are borrowed; a nil Value is
// null.
type HeaderView struct {
	Key, Value []byte
}

// HeaderCount is the number of headers.
func (v *View) HeaderCount() int { return int(v.headerCount) }

// Headers ranges over the headers, decoding them as it goes, without allocation.
func (v *View) Headers() func(yield func(HeaderView) bool) {
	return func(yield func(HeaderView) bool) {
		at := 0
		for range v.headerCount {
			var h HeaderView
			h.Key, at = takeBytes(v.headers, at)
			h.Value, at = takeBytes(v.headers, at)
			if at < 0 || !yield(h) {
				return
			}
		}
	}
}

// Record copies the view's header into the form that AppendRecord takes. Key and
// value stay borrowed.
func (v *View) Record() Record {
	r := Record{OffsetDelta: v.OffsetDelta, TimestampDelta: v.TimestampDelta, Key: v.Key, Value: v.Value}
	if v.headerCount > 0 {
		r.Headers = make([]Header, 0, v.headerCount)
		for h := range v.Headers() {
			r.Headers = append(r.Headers, Header{Key: string(h.Key), Value: h.Value})
		}
	}
	return r
}

// takeBytes reads a length and that many bytes; any negative length is null, as in
// Kafka's readers.
func takeBytes(p []byte, i int) ([]byte, int) {
	n, i := varint(p, i)
	if i < 0 {
		return nil, -1
	}
	if n < 0 {
		return nil, i
	}
	if int(n) > len(p)-i {
		return nil, -1
	}
	end := i + int(n)
	return p[i:end:end], end
}

// The ways in which a record can be malformed. They are made once, because a
// batch of garbage should not cost more than a good one.
var (
	errRecordLength  = errors.New("its length is not a number from 0 to the number of bytes left")
	errRecordFields  = errors.New("a field is cut off or not a number")
	errHeaderCount   = errors.New("the number of headers is negative or higher than the bytes left allow")
	errHeaderKey     = errors.New("a header has a null key")
	errRecordSurplus = errors.New("bytes are left over after its last field")
)

// parse decodes the record at the front of p, all of its structure, and returns
// its size with the length in front.
func (v *View) parse(p []byte) (int, error) {
	size, start := varint(p, 0)
	if start < 0 || size < 0 || int(size) > len(p)-start {
		return 0, errRecordLength
	}
	end := start + int(size)
	p = p[:end:end]
	if start == end {
		return 0, errRecordFields
	}
	v.Attributes = int8(p[start])
	i := start + 1
	v.TimestampDelta, i = varlong(p, i)
	v.OffsetDelta, i = varint(p, i)

	n, i := varint(p, i)
	if i < 0 || int(n) > end-i {
		return 0, errRecordFields
	}
	v.Key = nil
	if n >= 0 {
		v.Key = p[i : i+int(n) : i+int(n)]
		i += int(n)
	}
	n, i = varint(p, i)
	if i < 0 || int(n) > end-i {
		return 0, errRecordFields
	}
	v.Value = nil
	if n >= 0 {
		v.Value = p[i : i+int(n) : i+int(n)]
		i += int(n)
	}

	v.headerCount, i = varint(p, i)
	if i < 0 {
		return 0, errRecordFields
	}
	if v.headerCount < 0 || int(v.headerCount) > end-i {
		return 0, errHeaderCount
	}
	v.headers = p[i:]
	for range v.headerCount {
		if n, i = varint(p, i); i < 0 || int(n) > end-i {
			return 0, errRecordFields
		}
		if n < 0 {
			return 0, errHeaderKey
		}
		i += int(n)
		if n, i = varint(p, i); i < 0 || int(n) > end-i {
			return 0, errRecordFields
		}
		i += max(int(n), 0)
	}
	if i != end {
		return 0, errRecordSurplus
	}
	return end, nil
}

// Reader walks the records of one batch. It holds no resources. Not safe for
// concurrent use.
//
//	r := record.NewReader(batch, records)
//	for r.Next() {
//		use(r.Offset(), r.Timestamp(), r.View())
//	}
//	if err := r.Err(); err != nil { ... }
type Reader struct {
	batch   Batch
	records []byte
	left    int32
	index   int32
	view    View
	err     error
}

// NewReader reads the records of b. records is b's payload, decompressed where
// b.Codec is not None; Batch.Records gives it. It is borrowed while the reader and
// views from it are in use.
func NewReader(b Batch, records []byte) Reader {
	return Reader{batch: b, records: records, left: b.Count(), index: -1}
}

// Next moves to the next record. It is false at the end, and where the records
// are malformed: fewer or more than the batch's count, or not well-formed.
func (r *Reader) Next() bool {
	if r.err != nil {
		return false
	}
	if r.left <= 0 {
		if len(r.records) != 0 || r.left < 0 {
			r.err = invalid(KindInvalidRecord, fmt.Sprintf(
				"%d bytes are left over after the batch's %d records", len(r.records), r.batch.Count()))
		}
		return false
	}
	n, err := r.view.parse(r.records)
	if err != nil {
		r.err = malformed(r.index+1, err)
		return false
	}
	r.records = r.records[n:]
	r.left--
	r.index++
	return true
}

// View is the record at hand. It is overwritten by Next.
func (r *Reader) View() *View { return &r.view }

// Index is the place of the record at hand among the batch's records, from 0.
func (r *Reader) Index() int32 { return r.index }

// Offset is that of the record at hand.
func (r *Reader) Offset() int64 { return r.batch.BaseOffset() + int64(r.view.OffsetDelta) }

// Timestamp is that of the record at hand, in ms: the batch's max timestamp with
// log append time.
func (r *Reader) Timestamp() int64 {
	if r.batch.IsLogAppendTime() {
		return r.batch.MaxTimestamp()
	}
	return r.batch.FirstTimestamp() + r.view.TimestampDelta
}

// Err is why Next stopped early; nil after the last record. It is a
// *ValidationError of KindInvalidRecord.
func (r *Reader) Err() error { return r.err }

// Decompress appends the original of src, which codec compressed, to dst and
// returns the result. It bounds what it produces by itself. An error for which
// errors.As finds a *ValidationError is passed on as it is; NewTooLarge makes the
// one for a payload that would pass the bound. Any other counts as
// KindInvalidRecord.
type Decompress func(codec Codec, dst, src []byte) ([]byte, error)

// Records is the payload as records: the payload itself, borrowed, where it is not
// compressed; else what decompress makes of it, appended to buf.
func (b Batch) Records(decompress Decompress, buf []byte) ([]byte, error) {
	codec := b.Codec()
	if codec == None {
		return b.Payload(), nil
	}
	if codec >= CodecCount || decompress == nil {
		return nil, invalid(KindUnsupportedCodec, fmt.Sprintf("Unknown compression type id: %d", codec))
	}
	records, err := decompress(codec, buf, b.Payload())
	if err != nil {
		return nil, cannotOpen(codec, err)
	}
	return records[len(buf):], nil
}

// cannotOpen makes the error of a decompression one of validation.
func cannotOpen(codec Codec, err error) error {
	var v *ValidationError
	if errors.As(err, &v) {
		return err
	}
	return &ValidationError{
		Kind: KindInvalidRecord, cause: err,
		Message: fmt.Sprintf("Failed to decompress the %s record batch", codec),
	}
}
