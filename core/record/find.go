package record

// Found is a record's place and time.
type Found struct {
	Offset    int64
	Timestamp int64 // ms
}

// FindTimestamp finds the first record of b at or after the offset from whose
// timestamp is at least ms. records is the payload as in NewReader. ok is false
// where there is none. The error is that of a Reader.
func FindTimestamp(b Batch, records []byte, from, ms int64) (f Found, ok bool, err error) {
	r := NewReader(b, records)
	for r.Next() {
		if ts, offset := r.Timestamp(), r.Offset(); ts >= ms && offset >= from {
			return Found{Offset: offset, Timestamp: ts}, true, nil
		}
	}
	return Found{}, false, r.Err()
}

// FindMaxTimestamp finds the first of the records of b from an offset on that have the
// highest timestamp among them (KIP-734); the first one with log append time. ok is
// false where there are none.
func FindMaxTimestamp(b Batch, records []byte, from int64) (f Found, ok bool, err error) {
	r := NewReader(b, records)
	for r.Next() {
		if ts := r.Timestamp(); r.Offset() >= from && (!ok || ts > f.Timestamp) {
			f, ok = Found{Offset: r.Offset(), Timestamp: ts}, true
		}
	}
	if err := r.Err(); err != nil {
		return Found{}, false, err
	}
	return f, ok, nil
}
