package record_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/millrace/millrace/core/record"
)

// What producers really send passes, and reads as what they were given.
func TestValidateTakesWhatProducersSend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		client     string
		value      string
		idempotent bool
	}{
		{"java", "value %d of the java producer", true},
		{"librdkafka", "value %d of librdkafka", false},
	} {
		raw, err := os.ReadFile("testdata/" + c.client + "-none.batch")
		if err != nil {
			t.Fatal(err)
		}
		b, err := record.SingleBatch(raw)
		if err != nil {
			t.Fatalf("%s: %v", c.client, err)
		}
		res, err := record.Validate(b, &record.Rules{MaxBytes: 1 << 20, Now: b.MaxTimestamp(), Before: testHour, After: testHour})
		if err != nil || res.Count != 100 || res.MaxTimestamp != b.MaxTimestamp() {
			t.Fatalf("%s: %+v, %v", c.client, res, err)
		}
		if (b.ProducerID() >= 0) != c.idempotent {
			t.Errorf("%s: producer id %d", c.client, b.ProducerID())
		}
		r := record.NewReader(b, res.Records)
		for r.Next() {
			if want := fmt.Sprintf(c.value, r.Index()); string(r.View().Value) != want {
				t.Errorf("%s: record %d is %q", c.client, r.Index(), r.View().Value)
			}
		}
		if r.Err() != nil {
			t.Errorf("%s: %v", c.client, r.Err())
		}
	}
}
