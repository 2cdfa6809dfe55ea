package compact

import "github.com/millrace/millrace/core/record"

// aheadRecords is how many records are parsed and hashed before the table is asked
// for the first of them.
const aheadRecords = 16

// lookahead walks the records of a batch and knows their keys' hashes, unless it is
// without a table.
type lookahead struct {
	table   *table
	records []byte // not parsed yet
	left    int32
	n, at   int // of records in the arrays
	fields  [aheadRecords]fields
	keys    [aheadRecords]digest
	touched int64
}

func (l *lookahead) reset(t *table, b record.Batch, records []byte) {
	l.table, l.records, l.left, l.n, l.at = t, records, b.Count(), 0, 0
}

// next is the next record and the hash of its key. f is nil at the end; ok is false
// where the records are malformed, fewer or more than the batch says.
func (l *lookahead) next() (f *fields, key digest, ok bool) {
	if l.at == l.n {
		if l.left <= 0 {
			return nil, digest{}, l.left == 0 && len(l.records) == 0
		}
		if !l.fill() {
			return nil, digest{}, false
		}
	}
	i := l.at
	l.at++
	return &l.fields[i], l.keys[i], true
}

func (l *lookahead) fill() bool {
	l.n, l.at = int(min(l.left, aheadRecords)), 0
	l.left -= int32(l.n)
	for i := range l.n {
		f := &l.fields[i]
		if !f.parse(l.records) {
			return false
		}
		l.records = l.records[f.size:]
		if l.table != nil {
			l.keys[i] = l.table.digest(f.key)
		}
	}
	if l.table != nil {
		l.touched |= l.table.touch(l.keys[:l.n])
	}
	return true
}
