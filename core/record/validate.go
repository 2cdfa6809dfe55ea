package record

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Kind says in which way a batch is refused. Each is one of Kafka's error codes.
type Kind uint8

// The kinds.
const (
	// KindCorrupt: size, magic or checksum are wrong. CORRUPT_MESSAGE, which clients
	// retry.
	KindCorrupt Kind = iota + 1
	// KindInvalidRecord: a rule of the batch or of a record in it is broken.
	// INVALID_RECORD.
	KindInvalidRecord
	// KindInvalidTimestamp: a timestamp outside of what the topic takes, or log
	// append time set by a client. INVALID_TIMESTAMP.
	KindInvalidTimestamp
	// KindUnsupportedCodec: a codec that nobody knows, or that is not there.
	// UNSUPPORTED_COMPRESSION_TYPE.
	KindUnsupportedCodec
	// KindTooLarge: the batch, or what it decompresses to, passes the limit.
	// MESSAGE_TOO_LARGE, on which clients split the batch.
	KindTooLarge
	// KindOldFormat: a message set of magic 0 or 1 where only batches may be.
	// INVALID_RECORD.
	KindOldFormat
)

// String names the kind as Kafka names the error code.
func (k Kind) String() string {
	switch k {
	case KindCorrupt:
		return "CORRUPT_MESSAGE"
	case KindInvalidRecord, KindOldFormat:
		return "INVALID_RECORD"
	case KindInvalidTimestamp:
		return "INVALID_TIMESTAMP"
	case KindUnsupportedCodec:
		return "UNSUPPORTED_COMPRESSION_TYPE"
	case KindTooLarge:
		return "MESSAGE_TOO_LARGE"
	default:
		return "UNKNOWN"
	}
}

// ValidationError is why a batch is refused.
type ValidationError struct {
	Kind Kind
	// Message is for the client (error_message of KIP-467).
	Message string
	// Records are the records that are to blame, by index, where it is for a record;
	// at most MaxRecordErrors of them. The rest of the batch is good, but a batch is
	// appended as a whole or not at all.
	Records []RecordError

	cause error
}

// RecordError is one record that caused its batch to be refused (KIP-467).
type RecordError struct {
	// Index is the place of the record in the batch, from 0.
	Index   int32
	Message string
}

// MaxRecordErrors bounds ValidationError.Records, so that a batch of bad records
// does not cost many times its size.
const MaxRecordErrors = 1000

// Error implements error.
func (e *ValidationError) Error() string {
	if e.cause != nil {
		return e.Kind.String() + ": " + e.Message + ": " + e.cause.Error()
	}
	return e.Kind.String() + ": " + e.Message
}

// Unwrap is what caused the error, if it was not found in the batch itself.
func (e *ValidationError) Unwrap() error { return e.cause }

// Is makes errors.Is(err, ErrCorrupt) true for KindCorrupt.
func (e *ValidationError) Is(target error) bool {
	return target == ErrCorrupt && e.Kind == KindCorrupt
}

// NewTooLarge is the error of a Decompress for a payload that would pass its bound
// in bytes.
func NewTooLarge(limit int, cause error) *ValidationError {
	return &ValidationError{
		Kind: KindTooLarge, cause: cause,
		Message: fmt.Sprintf("The record batch decompresses to more than the limit of %d bytes", limit),
	}
}

func invalid(kind Kind, message string) *ValidationError {
	return &ValidationError{Kind: kind, Message: message}
}

func malformed(index int32, why error) *ValidationError {
	m := fmt.Sprintf("Record %d is malformed: %s", index, why)
	return &ValidationError{Kind: KindInvalidRecord, Message: m, Records: []RecordError{{Index: index, Message: m}}}
}

// Rules is what Validate holds a batch against: settings of the topic, and who
// sent it. The zero value is a topic with create time, no bounds, and no codec.
type Rules struct {
	// MaxBytes is the most that the whole batch may take (max.message.bytes); 0
	// means no bound.
	MaxBytes int
	// Compacted: every record needs a key (cleanup.policy has compact).
	Compacted bool
	// LogAppendTime: the topic's message.timestamp.type. The timestamps of the
	// records are then not looked at, and the caller sets the time.
	LogAppendTime bool
	// Now is the broker's time, and Before and After how far from it a timestamp may
	// be (message.timestamp.before.max.ms and .after.max.ms); all in ms. NoTimestamp
	// is always taken. A bound of math.MaxInt64 is none; without a Now (0) there are
	// no bounds.
	Now, Before, After int64
	// Internal: the batch is from the broker itself (transaction markers, committed
	// offsets) and may be a control batch. Other batches are from clients.
	Internal bool
	// Decompress opens compressed payloads; nil refuses them.
	Decompress Decompress
	// Buffer is where the decompressed records are appended; nil is fine.
	Buffer []byte
}

// Result is what Validate found.
type Result struct {
	// Count is the number of records.
	Count int32
	// MaxTimestamp is the highest timestamp of the records, in ms, which the header
	// need not have right: see Batch.SetCreateTime. NoTimestamp where no record has
	// one.
	MaxTimestamp int64
	// MaxTimestampIndex is the index, and so the offset delta, of the first record
	// with MaxTimestamp.
	MaxTimestampIndex int32
	// Records are the records, decompressed; they alias the batch where it is not
	// compressed, and Rules.Buffer where that was large enough.
	Records []byte
}

// Validate holds a batch that is to be appended against the rules: every field of
// the header and the structure of every record, as Kafka's broker does
// (UnifiedLog, LogValidator, DefaultRecordBatch). b is the whole batch and is not
// changed. The error is a *ValidationError.
//
// Where Kafka leaves a batch through that its own readers then stumble over,
// Validate refuses it as KindInvalidRecord: offset deltas that do not run from 0
// to count-1; a producer id without an epoch; a transactional batch without a
// producer id; bytes left over in a compressed batch's record. A batch of a client
// that claims log append time is KindInvalidTimestamp whatever the topic's type:
// with create time, Kafka would append timestamps that it has never looked at.
//
// An uncompressed batch costs no allocation.
func Validate(b Batch, rules *Rules) (Result, error) {
	if err := validateHeader(b, rules); err != nil {
		return Result{}, err
	}
	records, err := b.Records(rules.Decompress, rules.Buffer)
	if err != nil {
		return Result{}, err
	}
	res := Result{Count: b.Count(), Records: records}
	if err := validateRecords(b, rules, &res); err != nil {
		return Result{}, err
	}
	return res, nil
}

// validateHeader checks in Kafka's order, which decides the error where several
// things are wrong. The nil it returns is an untyped one.
func validateHeader(b Batch, rules *Rules) error {
	if len(b) < HeaderSize {
		return invalid(KindCorrupt, fmt.Sprintf("Record batch is corrupt (the size %d is smaller than the minimum allowed overhead %d)", len(b), HeaderSize))
	}
	if magic := b.Magic(); magic != Magic2 {
		if magic == Magic0 || magic == Magic1 {
			return invalid(KindOldFormat, fmt.Sprintf("The record batch has magic %d, not %d", magic, Magic2))
		}
		return invalid(KindCorrupt, fmt.Sprintf("Invalid magic found in record: %d", magic))
	}
	if size := b.Size(); size != len(b) {
		return invalid(KindCorrupt, fmt.Sprintf("Record batch is corrupt (it claims %d bytes but has %d)", size, len(b)))
	}
	if !rules.Internal && b.BaseOffset() != 0 {
		return invalid(KindInvalidRecord, fmt.Sprintf("The baseOffset of the record batch should be 0, but it is %d", b.BaseOffset()))
	}
	if rules.MaxBytes > 0 && len(b) > rules.MaxBytes {
		return invalid(KindTooLarge, fmt.Sprintf("The record batch size is %d bytes which exceeds the maximum configured value of %d", len(b), rules.MaxBytes))
	}
	if stored, computed := b.CRC(), b.ComputeCRC(); stored != computed {
		return invalid(KindCorrupt, fmt.Sprintf("Record is corrupt (stored crc = %d, computed crc = %d)", stored, computed))
	}
	if codec := b.Codec(); codec >= CodecCount {
		return invalid(KindUnsupportedCodec, fmt.Sprintf("Unknown compression type id: %d", codec))
	}
	return validateFields(b, rules)
}

func validateFields(b Batch, rules *Rules) error {
	last, count := b.LastOffsetDelta(), b.Count()
	switch {
	case last < 0:
		return invalid(KindInvalidRecord, fmt.Sprintf("Batch has an invalid offset range: [%d, %d]", b.BaseOffset(), b.LastOffset()))
	case count <= 0:
		return invalid(KindInvalidRecord, fmt.Sprintf("Invalid reported count for record batch: %d", count))
	case int64(last)+1 != int64(count):
		return invalid(KindInvalidRecord, fmt.Sprintf("Inconsistent batch offset range [%d, %d] and count of records %d", b.BaseOffset(), b.LastOffset(), count))
	}
	if rules.Internal {
		return nil
	}
	switch hasProducer := b.ProducerID() > NoProducerID; {
	case b.IsControl():
		return invalid(KindInvalidRecord, "Clients are not allowed to write control records")
	case hasProducer && b.BaseSequence() < 0:
		return invalid(KindInvalidRecord, fmt.Sprintf("Invalid sequence number %d in record batch with producerId %d", b.BaseSequence(), b.ProducerID()))
	case hasProducer && b.ProducerEpoch() < 0:
		return invalid(KindInvalidRecord, fmt.Sprintf("Invalid producer epoch %d in record batch with producerId %d", b.ProducerEpoch(), b.ProducerID()))
	case !hasProducer && b.IsTransactional():
		return invalid(KindInvalidRecord, "A transactional record batch needs a producer id")
	case b.IsLogAppendTime():
		return invalid(KindInvalidTimestamp, "Producer should not set timestamp type to LogAppendTime")
	}
	return nil
}

// validateRecords walks res.Records and fills in the rest of res.
func validateRecords(b Batch, rules *Rules, res *Result) error {
	first := b.FirstTimestamp()
	lowest, highest := int64(math.MinInt64), int64(math.MaxInt64)
	if !rules.LogAppendTime && rules.Now != 0 {
		lowest, highest = saturatingAdd(rules.Now, -rules.Before), saturatingAdd(rules.Now, rules.After)
	}
	maxTS, maxIndex := NoTimestamp, int32(0)
	var bad recordErrors
	var v View
	p := res.Records
	for i := range res.Count {
		n, timestampDelta, offsetDelta, hasKey := skim(p)
		ts := first + int64(timestampDelta)
		if n == 0 {
			var err error
			if n, err = v.parse(p); err != nil {
				return malformed(i, err)
			}
			ts, offsetDelta, hasKey = first+v.TimestampDelta, v.OffsetDelta, v.Key != nil
		}
		p = p[n:]
		if offsetDelta != i {
			m := fmt.Sprintf("Record %d has the offset delta %d; the deltas of a batch must run from 0", i, offsetDelta)
			return &ValidationError{Kind: KindInvalidRecord, Message: m, Records: []RecordError{{Index: i, Message: m}}}
		}
		if ts > maxTS {
			maxTS, maxIndex = ts, i
		}
		if rules.Compacted && !hasKey {
			bad.add(i, KindInvalidRecord, "Compacted topic cannot accept message without key")
		} else if (ts < lowest || ts > highest) && ts != NoTimestamp {
			bad.addTimestamp(i, ts, lowest, highest)
		}
	}
	if len(p) != 0 {
		return invalid(KindInvalidRecord, fmt.Sprintf("Incorrect declared batch size, %d bytes still remaining after %d records", len(p), res.Count))
	}
	if bad.total > 0 {
		return bad.err()
	}
	res.MaxTimestamp, res.MaxTimestampIndex = maxTS, maxIndex
	return nil
}

// recordErrors collects the records that are to blame.
type recordErrors struct {
	total     int
	timestamp bool // one of them for its timestamp
	records   []RecordError
}

func (r *recordErrors) add(index int32, kind Kind, message string) {
	r.total++
	r.timestamp = r.timestamp || kind == KindInvalidTimestamp
	if len(r.records) < MaxRecordErrors {
		r.records = append(r.records, RecordError{Index: index, Message: message})
	}
}

func (r *recordErrors) addTimestamp(index int32, ts, lowest, highest int64) {
	var message string
	if len(r.records) < MaxRecordErrors {
		message = fmt.Sprintf("Timestamp %d of message with offset %d is out of range. The timestamp should be within [%d, %d]", ts, index, lowest, highest)
	}
	r.add(index, KindInvalidTimestamp, message)
}

// err words it as Kafka does: one bad timestamp makes it the error of the batch.
func (r *recordErrors) err() error {
	if r.timestamp {
		return &ValidationError{
			Kind: KindInvalidTimestamp, Records: r.records,
			Message: "One or more records have been rejected due to invalid timestamp",
		}
	}
	shown := make([]string, 0, 3)
	for _, e := range r.records[:min(3, len(r.records))] {
		shown = append(shown, fmt.Sprintf("record %d: %s", e.Index, e.Message))
	}
	return &ValidationError{
		Kind: KindInvalidRecord, Records: r.records,
		Message: fmt.Sprintf("One or more records have been rejected due to %d record errors in total, and only showing the first three errors at most: [%s]",
			r.total, strings.Join(shown, "; ")),
	}
}

// saturatingAdd keeps bounds of "no limit" from wrapping around.
func saturatingAdd(a, b int64) int64 {
	s := a + b
	switch {
	case b > 0 && s < a:
		return math.MaxInt64
	case b < 0 && s > a:
		return math.MinInt64
	default:
		return s
	}
}

// AsValidationError finds the *ValidationError in err.
func AsValidationError(err error) (*ValidationError, bool) {
	var v *ValidationError
	ok := errors.As(err, &v)
	return v, ok
}
