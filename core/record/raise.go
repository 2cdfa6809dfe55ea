package record

import (
	"fmt"
	"math"
)

// Raise makes one uncompressed batch of an entry of magic 0 or 1 as it lies in a log
// that an old Kafka has left: with the offsets, the timestamps and the type of
// timestamps that it has there. It is for reading: a log keeps what it has. The error
// is a *ValidationError.
func Raise(entry []byte, t Transcoder) (Batch, error) {
	m, err := ParseMessage(entry)
	if err != nil {
		return nil, err
	}
	var info BatchInfo
	var records []Record
	add := func(m *Message) error {
		if len(records) == 0 {
			info = NewBatchInfo(m.Offset, m.Timestamp)
		}
		delta := m.Offset - info.BaseOffset
		if delta < 0 || delta > math.MaxInt32 {
			return invalid(KindCorrupt, fmt.Sprintf("Offset %d is too far from the first one, %d", m.Offset, info.BaseOffset))
		}
		info.LogAppendTime = m.IsLogAppendTime()
		records = append(records, Record{
			OffsetDelta: int32(delta), TimestampDelta: m.Timestamp - info.FirstTimestamp, Key: m.Key, Value: m.Value,
		})
		return nil
	}
	if m.Codec() == None {
		err = add(&m)
	} else {
		err = m.Unwrap(t, nil, add)
	}
	if err != nil {
		return nil, err
	}
	return AppendBatch(nil, info, records, nil)
}
