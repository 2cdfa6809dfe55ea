package record_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/compression"
)

// transcoder has the broker's own codecs, and a limit.
func transcoder(t testing.TB) record.Transcoder {
	t.Helper()
	cs, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	return cs.Transcoder(16 << 20)
}

// oldFile is a file of testdata/old, which Kafka's own classes have written.
func oldFile(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/old/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// vectorNow is the first timestamp in testdata/old.
const vectorNow = 1600000000000

// vector is what message i of the files in testdata/old has.
func vector(i int, magic int8) record.Message {
	m := record.Message{Offset: int64(i), Magic: magic, Timestamp: record.NoTimestamp, Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d of the java producer", i)}
	switch i % 5 {
	case 1:
		m.Key = nil
	case 2:
		m.Key = []byte{}
	}
	if i%7 == 3 {
		m.Value = nil
	}
	if magic == record.Magic1 {
		m.Timestamp = vectorNow + int64(i*10-i%3*15)
	}
	return m
}

// messages reads a message set, wrappers opened.
func messages(t testing.TB, set []byte, tr record.Transcoder) []record.Message {
	t.Helper()
	var all []record.Message
	for rest := set; len(rest) > 0; {
		var entry []byte
		var err error
		if entry, rest, _, err = record.NextEntry(rest); err != nil {
			t.Fatal(err)
		}
		m, err := record.ParseMessage(entry)
		if err != nil {
			t.Fatal(err)
		}
		if m.Codec() == record.None {
			all = append(all, m)
			continue
		}
		err = m.Unwrap(tr, nil, func(inner *record.Message) error {
			all = append(all, *inner)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if last := all[len(all)-1].Offset; last != m.Offset && m.Offset != 0 {
			t.Errorf("the wrapper has offset %d, its last message %d", m.Offset, last)
		}
	}
	return all
}

func oldCodecs() []record.Codec {
	return []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4}
}

// What old producers send reads as what they were given, and becomes one batch.
func TestUpConversionOfWhatProducersSend(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	for _, c := range []struct {
		name  string
		magic int8
	}{{"java-0.8.2.2", 0}, {"java-0.9.0.1", 0}, {"java-3.9.1-magic1", 1}} {
		for _, codec := range oldCodecs() {
			set := oldFile(t, c.name+"-"+codec.String()+".set")
			var want []record.Message
			for i := range 100 {
				want = append(want, vector(i, c.magic))
			}
			if diff := cmp.Diff(want, messages(t, set, tr)); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", c.name, codec, diff)
			}
			u := record.UpConversion{Transcoder: tr}
			up, err := u.Append([]byte("before"), set)
			if err != nil || up.Codec != codec {
				t.Fatalf("%s %s: %v, codec %s", c.name, codec, err, up.Codec)
			}
			b, err := record.SingleBatch(up.Batches)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := record.Validate(b, &record.Rules{}); err != nil {
				t.Fatalf("%s %s: the batch is not valid: %v", c.name, codec, err)
			}
			if diff := cmp.Diff(want, asMessages(t, b, nil, c.magic)); diff != "" {
				t.Errorf("%s %s, up-converted (-want +got):\n%s", c.name, codec, diff)
			}
		}
	}
}

// asMessages reads a batch as messages of a magic, as they have to be after a
// down-conversion.
func asMessages(t testing.TB, b record.Batch, tr record.Transcoder, magic int8) []record.Message {
	t.Helper()
	if b.IsControl() {
		return nil
	}
	records, err := b.Records(func(c record.Codec, dst, src []byte) ([]byte, error) {
		return tr.Decompress(c, record.Magic2, dst, src)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []record.Message
	r := record.NewReader(b, records)
	for r.Next() {
		m := record.Message{Offset: r.Offset(), Magic: magic, Timestamp: record.NoTimestamp, Key: r.View().Key, Value: r.View().Value}
		if magic == record.Magic1 {
			m.Timestamp = r.Timestamp()
			if b.IsLogAppendTime() {
				m.Attributes = 8
			}
		}
		all = append(all, m)
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

// Kafka's own down-conversion of the same batches, which have headers and gaps, says
// the same; uncompressed, byte for byte.
func TestDownConversionIsKafkas(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	for _, codec := range oldCodecs() {
		for _, kind := range []string{"create", "append"} {
			name := "down-" + codec.String() + "-" + kind
			b := record.Batch(oldFile(t, name+".batch"))
			for magic := range int8(2) {
				want := oldFile(t, fmt.Sprintf("%s-magic%d.set", name, magic))
				got, err := record.NewDownConverter(magic, tr).Append(nil, b)
				if err != nil {
					t.Fatal(err)
				}
				if codec == record.None && string(got) != string(want) {
					t.Errorf("%s to magic %d: other bytes than Kafka's", name, magic)
				}
				if diff := cmp.Diff(messages(t, want, tr), messages(t, got, tr)); diff != "" {
					t.Errorf("%s to magic %d (-Kafka +got):\n%s", name, magic, diff)
				}
				w, err := record.ParseMessage(want[:binary.BigEndian.Uint32(want[8:])+12])
				if err != nil {
					t.Fatal(err)
				}
				g, err := record.ParseMessage(got[:binary.BigEndian.Uint32(got[8:])+12])
				if err != nil {
					t.Fatal(err)
				}
				w.Value, g.Value = nil, nil
				if diff := cmp.Diff(w, g); diff != "" {
					t.Errorf("wrapper of %s to magic %d (-Kafka +got):\n%s", name, magic, diff)
				}
			}
		}
	}
}

// Random batches go down and come up again.
func TestConversionRoundTrip(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		codec := oldCodecs()[rnd.IntN(4)]
		magic := int8(rnd.IntN(2))
		b := randomBatch(t, rnd, codec, tr)
		want := asMessages(t, b, tr, magic)
		set, err := record.NewDownConverter(magic, tr).Append(nil, b)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(want, messages(t, set, tr)); diff != "" {
			t.Fatalf("seed %d, %s to magic %d (-want +got):\n%s", seed, codec, magic, diff)
		}
		from := want[rnd.IntN(len(want))].Offset
		rest := messages(t, record.MessagesFrom(set, from), tr)
		if codec == record.None && rest[0].Offset != from || rest[len(rest)-1].Offset != want[len(want)-1].Offset {
			t.Fatalf("seed %d: messages from %d on begin at %d", seed, from, rest[0].Offset)
		}
		if left := record.MessagesFrom(set, want[len(want)-1].Offset+1); len(left) != 0 {
			t.Fatalf("seed %d: %d bytes are left after the last message", seed, len(left))
		}
		if b.IsLogAppendTime() && magic == record.Magic1 {
			continue // no producer may send that
		}
		most := rnd.IntN(2) * rnd.IntN(1000)
		u := record.UpConversion{Transcoder: tr, MaxBatch: most}
		up, err := u.Append(nil, set)
		if err != nil || up.Codec != codec {
			t.Fatalf("seed %d: %v, codec %s", seed, err, up.Codec)
		}
		var back []record.Message
		if got := record.SetCodec(set); got != codec {
			t.Fatalf("seed %d: the set is compressed with %s, not %s", seed, got, codec)
		}
		for b := range up.Batches.All() {
			if err := record.Check(b); err != nil {
				t.Fatal(err)
			}
			if most > 0 && len(b) > most && b.Count() > 1 {
				t.Fatalf("seed %d: %d records in a batch of %d bytes, more than %d", seed, b.Count(), len(b), most)
			}
			if b.BaseOffset() != 0 {
				t.Fatalf("seed %d: a batch at offset %d", seed, b.BaseOffset())
			}
			b.SetBaseOffset(int64(len(back)))
			back = append(back, asMessages(t, b, tr, magic)...)
		}
		for i := range want {
			want[i].Offset = int64(i)
		}
		if diff := cmp.Diff(want, back); diff != "" {
			t.Fatalf("seed %d, %s from magic %d (-want +got):\n%s", seed, codec, magic, diff)
		}
	}
}

func randomBatch(t testing.TB, rnd *rand.Rand, codec record.Codec, tr record.Transcoder) record.Batch {
	t.Helper()
	blob := func() []byte {
		if rnd.IntN(5) == 0 {
			return nil
		}
		return slices.Repeat([]byte{byte(rnd.IntN(256)), 'x'}, rnd.IntN(100))
	}
	info := record.NewBatchInfo(rnd.Int64N(1<<40), vectorNow)
	info.Codec, info.ProducerID, info.BaseSequence, info.LogAppendTime = codec, rnd.Int64N(3)-1, 7, rnd.IntN(3) == 0
	info.MaxTimestamp += 500
	var rs []record.Record
	at := int32(rnd.IntN(3))
	for range 1 + rnd.IntN(30) {
		r := record.Record{OffsetDelta: at, TimestampDelta: int64(rnd.IntN(1000) - 300), Key: blob(), Value: blob()}
		if rnd.IntN(3) == 0 {
			r.Headers = []record.Header{{Key: "h", Value: blob()}}
		}
		rs, at = append(rs, r), at+1+int32(rnd.IntN(2)*rnd.IntN(4))
	}
	var compress func(dst, src []byte) ([]byte, error)
	if codec != record.None {
		compress = func(dst, src []byte) ([]byte, error) { return tr.Compress(codec, record.Magic2, dst, src) }
	}
	b, err := record.AppendBatch(nil, info, rs, compress)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// An entry as it lies in a log is read as the batch that has the same records, at the
// same offsets and with the same times.
func TestRaise(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	for _, codec := range oldCodecs() {
		for _, kind := range []string{"create", "append"} {
			for magic := range int8(2) {
				name := fmt.Sprintf("down-%s-%s-magic%d.set", codec, kind, magic)
				set := oldFile(t, name)
				var got []record.Message
				for rest := set; len(rest) > 0; {
					entry, next, _, err := record.NextEntry(rest)
					if err != nil {
						t.Fatal(err)
					}
					b, err := record.Raise(entry, tr)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if err := record.Check(b); err != nil {
						t.Fatal(err)
					}
					got, rest = append(got, asMessages(t, b, tr, magic)...), next
				}
				if diff := cmp.Diff(messages(t, set, tr), got); diff != "" {
					t.Errorf("%s (-messages +raised):\n%s", name, diff)
				}
			}
		}
	}
	if _, err := record.Raise(kafkaBatch(kafkaRecords(1, nil), 1, nil), tr); err == nil {
		t.Error("a batch was raised")
	}
}

// What has no place in the old formats.
func TestDownConversionLeavesOut(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	d := record.NewDownConverter(1, tr)
	marker := record.AppendEndTxn(nil, record.NewBatchInfo(5, vectorNow), record.EndTxn{Commit: true})
	if out, err := d.Append([]byte("x"), marker); string(out) != "x" || err != nil {
		t.Errorf("control batch: %q, %v", out, err)
	}
	empty, err := record.AppendBatch(nil, record.NewBatchInfo(5, vectorNow), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := d.Append([]byte("x"), empty); string(out) != "x" || err != nil {
		t.Errorf("batch without records: %q, %v", out, err)
	}
	info := record.NewBatchInfo(0, vectorNow)
	info.Codec = record.Zstd
	zstd, err := record.AppendBatch(nil, info, sampleRecords(), func(dst, src []byte) ([]byte, error) {
		return tr.Compress(record.Zstd, record.Magic2, dst, src)
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.Append([]byte("x"), zstd)
	if v, ok := record.AsValidationError(err); !ok || v.Kind != record.KindUnsupportedCodec || string(out) != "x" {
		t.Errorf("zstd: %q, %v", out, err)
	}
	info.Codec = record.Gzip
	broken, err := record.AppendBatch(nil, info, sampleRecords(), func(dst, _ []byte) ([]byte, error) { return append(dst, "no gzip"...), nil })
	if err != nil {
		t.Fatal(err)
	}
	if out, err = d.Append([]byte("x"), broken); err == nil || string(out) != "x" {
		t.Errorf("garbage: %q, %v", out, err)
	}
}

func TestUpConversionRefuses(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	one := func(m record.Message) []byte { return record.AppendMessage(nil, &m) }
	wrap := func(magic int8, attributes byte, codec record.Codec, inner []byte) []byte {
		value, err := tr.Compress(codec, magic, nil, inner)
		if err != nil {
			t.Fatal(err)
		}
		return resealed(one(record.Message{Magic: magic, Timestamp: vectorNow, Value: value}), 17, byte(codec)|attributes)
	}
	m0, m1 := vector(0, 0), vector(0, 1)
	gzip := wrap(1, 0, record.Gzip, one(m1))
	for name, c := range map[string]struct {
		set  []byte
		kind record.Kind
		says string
	}{
		"nothing":               {nil, record.KindInvalidRecord, "empty"},
		"cut off":               {one(m1)[:20], record.KindCorrupt, ""},
		"checksum":              {append(one(m1)[:30], append([]byte{one(m1)[30] ^ 1}, one(m1)[31:]...)...), record.KindCorrupt, "crc"},
		"two magics":            {append(one(m1), one(m0)...), record.KindInvalidRecord, "not the same"},
		"magic 2 behind":        {append(one(m1), kafkaBatch(kafkaRecords(1, nil), 1, nil)...), record.KindInvalidRecord, "not the same"},
		"magic 2":               {kafkaBatch(kafkaRecords(1, nil), 1, nil), record.KindInvalidRecord, "magic"},
		"magic 3":               {resealed(one(m1), 16, 3), record.KindCorrupt, "magic"},
		"two wrappers":          {append(slices.Clone(gzip), gzip...), record.KindInvalidRecord, "more than one batch"},
		"wrapper behind":        {append(one(m1), gzip...), record.KindInvalidRecord, "more than one batch"},
		"nested":                {wrap(1, 0, record.Gzip, gzip), record.KindInvalidRecord, "compression attribute"},
		"another magic inside":  {wrap(1, 0, record.Gzip, one(m0)), record.KindInvalidRecord, "does not match wrapper"},
		"garbage inside":        {resealed(wrap(1, 0, record.Gzip, one(m1)), 36, 7), record.KindInvalidRecord, "decompress"},
		"nothing inside":        {wrap(1, 0, record.Gzip, nil), record.KindInvalidRecord, "no inner records"},
		"cut off inside":        {wrap(0, 0, record.Snappy, one(m0)[:25]), record.KindCorrupt, ""},
		"checksum inside":       {wrap(0, 0, record.Snappy, append(one(m0)[:len(one(m0))-1], '?')), record.KindCorrupt, "crc"},
		"null wrapper":          {resealed(one(record.Message{Magic: 1}), 17, 1), record.KindInvalidRecord, "null value"},
		"zstd":                  {resealed(one(m1), 17, 4), record.KindUnsupportedCodec, "zstd"},
		"codec 7":               {resealed(one(m1), 17, 7), record.KindUnsupportedCodec, ""},
		"log append time":       {resealed(one(m1), 17, 8), record.KindInvalidTimestamp, "LogAppendTime"},
		"wrapper's append time": {wrap(1, 8, record.LZ4, one(m1)), record.KindInvalidTimestamp, "LogAppendTime"},
		"append time inside":    {wrap(1, 0, record.LZ4, resealed(one(m1), 17, 8)), record.KindInvalidTimestamp, "LogAppendTime"},
		"negative time":         {one(record.Message{Magic: 1, Timestamp: -2}), record.KindInvalidTimestamp, "negative"},
		"too large":             {one(record.Message{Magic: 1, Value: make([]byte, 2000)}), record.KindTooLarge, "exceeds"},
		"bomb":                  {wrap(1, 0, record.Gzip, make([]byte, 17<<20)), record.KindTooLarge, "limit"},
		"key too long":          {resealed(one(m1), 29, 200), record.KindCorrupt, ""},
	} {
		u := record.UpConversion{Transcoder: tr, MaxMessage: 1000}
		if name == "bomb" {
			u.MaxMessage = 0
		}
		res, err := u.Append(nil, c.set)
		v, ok := record.AsValidationError(err)
		if !ok || v.Kind != c.kind || !strings.Contains(v.Error(), c.says) || res.Batches != nil {
			t.Errorf("%s: %v, want %s with %q", name, err, c.kind, c.says)
		}
	}
}

// resealed sets one byte of a message and makes its checksum right again.
func resealed(m []byte, at int, to byte) []byte {
	m = slices.Clone(m)
	m[at] = to
	binary.BigEndian.PutUint32(m[12:], crc32.ChecksumIEEE(m[16:]))
	return m
}

// librdkafka of the time of magic 1 left the wrapper's offset at 0.
func TestWrapperWithoutOffset(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	set := slices.Clone(oldFile(t, "java-3.9.1-magic1-gzip.set"))
	want := messages(t, set, tr)
	clear(set[:8])
	if diff := cmp.Diff(want, messages(t, set, tr)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
