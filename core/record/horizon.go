package record

// HorizonPrefix is how many bytes of a batch FirstRecordTimestamp looks at, at most:
// the header, and of the first record its length, its attributes and its timestamp.
const HorizonPrefix = HeaderSize + 5 + 1 + 10

// FirstRecordTimestamp is the timestamp of the batch's first record, in ms. It is what
// FirstTimestamp says, unless compaction has put a delete horizon there (KIP-534):
// then the first record is looked at. Where that is compressed the answer is the
// highest timestamp of the batch, which Kafka goes by for every batch when it decides
// on a segment's age. b may be cut off after HorizonPrefix bytes.
func (b Batch) FirstRecordTimestamp() int64 {
	if !b.HasDeleteHorizon() {
		return b.FirstTimestamp()
	}
	if b.IsLogAppendTime() || b.Codec() != None || b.Count() == 0 {
		return b.MaxTimestamp()
	}
	p := b.Payload()
	_, i := varint(p, 0)
	if i < 0 || i >= len(p) {
		return b.MaxTimestamp()
	}
	delta, i := varlong(p, i+1)
	if i < 0 {
		return b.MaxTimestamp()
	}
	return b.FirstTimestamp() + delta
}
