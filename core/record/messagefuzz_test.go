package record_test

import (
	"os"
	"testing"

	"github.com/millrace/millrace/core/record"
)

// FuzzUpConversion takes message sets of clients, with checksums that need not be
// right and ones that are made right, so that the fields are reached.
func FuzzUpConversion(f *testing.F) {
	files, err := os.ReadDir("testdata/old")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range files {
		f.Add(oldFile(f, e.Name()))
	}
	f.Add(legacyMessage(0))
	f.Add([]byte(nil))
	tr := transcoder(f)
	f.Fuzz(func(t *testing.T, set []byte) {
		for _, sealed := range []bool{false, true} {
			if sealed && len(set) > 17 {
				set = resealed(set, 16, set[16]&1)
			}
			if b, err := record.Raise(set, tr); err == nil {
				if err := record.Check(b); err != nil {
					t.Fatal(err)
				}
			}
			u := record.UpConversion{Transcoder: tr, MaxBatch: 500}
			up, err := u.Append(nil, set)
			if err != nil {
				if _, ok := record.AsValidationError(err); !ok {
					t.Fatalf("%T: %v", err, err)
				}
				continue
			}
			count := int32(0)
			for b := range up.Batches.All() {
				if _, err := record.Validate(b, &record.Rules{}); err != nil {
					t.Fatalf("what became of a good message set is not valid: %v", err)
				}
				count += b.Count()
			}
			if count == 0 {
				t.Fatal("no records in what was taken")
			}
		}
	})
}

// FuzzDownConversion takes batches as they may lie in a log.
func FuzzDownConversion(f *testing.F) {
	addBatches(f)
	for _, codec := range oldCodecs() {
		f.Add(oldFile(f, "down-"+codec.String()+"-create.batch"))
		f.Add(oldFile(f, "down-"+codec.String()+"-append.batch"))
	}
	tr := transcoder(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < record.HeaderSize {
			return
		}
		b := append(record.Batch(nil), raw...)
		size := len(b) - record.LogOverhead
		b[8], b[9], b[10], b[11], b[16] = byte(size>>24), byte(size>>16), byte(size>>8), byte(size), 2
		b.SetCRC()
		for magic := range int8(2) {
			set, err := record.NewDownConverter(magic, tr).Append(nil, b)
			if err != nil {
				if _, ok := record.AsValidationError(err); !ok || len(set) != 0 {
					t.Fatalf("%d bytes and %T: %v", len(set), err, err)
				}
				continue
			}
			want := asMessages(t, b, tr, magic)
			got := messages(t, set, tr)
			if len(got) != len(want) {
				t.Fatalf("%d records became %d messages of magic %d", len(want), len(got), magic)
			}
		}
	})
}
