package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var errShort = errors.New("it ends too early")

// appendBatch encodes transactions as the payload of one frame.
func appendBatch(b []byte, txns []txn) []byte {
	b = binary.AppendUvarint(b, uint64(len(txns)))
	for _, x := range txns {
		b = binary.AppendUvarint(b, uint64(x.zxid))
		b = binary.AppendUvarint(b, uint64(len(x.effects)))
		for i := range x.effects {
			b = appendEffect(b, &x.effects[i])
		}
	}
	return b
}

func appendEffect(b []byte, e *effect) []byte {
	b = append(b, byte(e.kind))
	if e.kind == effectEpoch {
		return binary.AppendUvarint(b, uint64(e.owner))
	}
	b = appendString(b, e.path)
	switch e.kind {
	case effectCreate:
		b = binary.AppendUvarint(b, uint64(e.owner))
		b = appendString(b, e.data)
	case effectSet:
		b = appendString(b, e.data)
	}
	return b
}

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decodeBatch reads what appendBatch wrote. Data in the result are copies.
func decodeBatch(payload []byte) ([]txn, error) {
	d := decoder{b: payload}
	n := d.count()
	txns := make([]txn, 0, min(n, 1024))
	for range n {
		x := txn{zxid: d.int64()}
		effects := d.count()
		x.effects = make([]effect, 0, min(effects, 1024))
		for range effects {
			x.effects = append(x.effects, d.effect())
			if d.err != nil {
				return nil, d.err
			}
		}
		if d.err != nil {
			return nil, d.err
		}
		txns = append(txns, x)
	}
	return txns, d.end()
}

// decoder reads values one after another; after the first failure it answers
// zeros and keeps the error.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(d.b))
	}
	return d.err
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int64() int64 {
	v := d.uvarint()
	if v > 1<<63-1 {
		d.fail(fmt.Errorf("number %d is too large", v))
		return 0
	}
	return int64(v)
}

// count reads a number of things of at least one byte each, so that a damaged
// one cannot ask for more memory than the input justifies.
func (d *decoder) count() int {
	v := d.uvarint()
	if v > uint64(len(d.b)) {
		d.fail(errShort)
		return 0
	}
	return int(v)
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errShort)
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.count()
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) data() []byte {
	if v := d.bytes(); len(v) > 0 {
		return append([]byte(nil), v...)
	}
	return nil
}

func (d *decoder) path() string {
	p := string(d.bytes())
	if d.err == nil {
		if err := checkPath(p); err != nil {
			d.fail(err)
		}
	}
	return p
}

func (d *decoder) effect() effect {
	e := effect{kind: effectKind(d.byte())}
	switch e.kind {
	case effectEpoch:
		e.owner = d.int64()
	case effectCreate:
		e.path = d.path()
		e.owner = d.int64()
		e.data = d.data()
	case effectSet:
		e.path = d.path()
		e.data = d.data()
	case effectDelete:
		e.path = d.path()
	default:
		d.fail(fmt.Errorf("unknown effect %d", e.kind))
	}
	return e
}
