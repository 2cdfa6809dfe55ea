package record_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
)

// legacyMessage is a message of magic 0 or 1, made by kmsg.
func legacyMessage(magic int8) []byte {
	if magic == 0 {
		m := kmsg.MessageV0{Key: []byte("k"), Value: []byte("v")}
		m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
		return m.AppendTo(nil)
	}
	m := kmsg.MessageV1{Magic: 1, Timestamp: testNow, Key: []byte("k"), Value: []byte("v")}
	m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
	return m.AppendTo(nil)
}

func TestNextEntry(t *testing.T) {
	t.Parallel()
	batch := kafkaBatch(kafkaRecords(1, nil), 1, nil)
	var run []byte
	want := []int8{0, 1, 2, 1}
	for _, m := range want {
		if m == 2 {
			run = append(run, batch...)
		} else {
			run = append(run, legacyMessage(m)...)
		}
	}
	var n int
	for rest := run; len(rest) > 0; n++ {
		entry, r, magic, err := record.NextEntry(rest)
		if err != nil || magic != want[n] || len(entry)+len(r) != len(rest) {
			t.Fatalf("entry %d: magic %d, %d bytes, %v", n, magic, len(entry), err)
		}
		if size, m, ok := record.Peek(rest); !ok || size != len(entry) || m != magic {
			t.Errorf("Peek of entry %d: %d %d %v", n, size, m, ok)
		}
		rest = r
	}
	if n != len(want) {
		t.Errorf("%d entries, want %d", n, len(want))
	}
	for i := 1; i < len(batch); i++ {
		if _, _, _, err := record.NextEntry(batch[:i]); err == nil {
			t.Errorf("NextEntry of the first %d bytes says nothing", i)
		}
	}
	for name, edit := range map[string]func(b []byte){
		"magic 3":         func(b []byte) { b[16] = 3 },
		"magic -1":        func(b []byte) { b[16] = 0xff },
		"negative length": func(b []byte) { b[8] = 0xff },
		"short length":    func(b []byte) { b[10], b[11] = 0, 48 },
	} {
		b := append([]byte(nil), batch...)
		edit(b)
		_, _, _, err := record.NextEntry(b)
		if v, ok := record.AsValidationError(err); !ok || v.Kind != record.KindCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSingleBatch(t *testing.T) {
	t.Parallel()
	batch := kafkaBatch(kafkaRecords(1, nil), 1, nil)
	got, err := record.SingleBatch(batch)
	if err != nil || string(got) != string(batch) {
		t.Fatalf("SingleBatch: %v", err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		kind record.Kind
	}{
		"nothing":     {nil, record.KindInvalidRecord},
		"two batches": {append(append([]byte(nil), batch...), batch...), record.KindInvalidRecord},
		"a tail":      {append(append([]byte(nil), batch...), 0), record.KindInvalidRecord},
		"cut off":     {batch[:len(batch)-1], record.KindCorrupt},
		"magic 0":     {legacyMessage(0), record.KindOldFormat},
		"magic 1":     {legacyMessage(1), record.KindOldFormat},
	} {
		_, err := record.SingleBatch(c.raw)
		if v, ok := record.AsValidationError(err); !ok || v.Kind != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}
