package convert_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/compression"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// source is a slice of bytes that counts how often it was closed, and what was read.
type source struct {
	data   []byte
	closed int
	read   int
	err    error
}

func (s *source) Len() int                    { return len(s.data) }
func (*source) File() (*os.File, int64, bool) { return nil, 0, false }
func (s *source) Close() error                { s.closed++; return nil }
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n := copy(p, s.data[off:])
	s.read += n
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func transcoder(t testing.TB) record.Transcoder {
	t.Helper()
	cs, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	return cs.Transcoder(16 << 20)
}

func newConverter(t testing.TB, cacheBytes int64) (*convert.Converter, *convert.Cache) {
	t.Helper()
	c := convert.NewCache(cacheBytes)
	t.Cleanup(c.Close)
	return convert.New(transcoder(t), c), c
}

// batchAt is a batch of n records, values of size bytes, in a codec.
func batchAt(t testing.TB, tr record.Transcoder, base int64, epoch int32, codec record.Codec, n, size int, fill byte) record.Batch {
	t.Helper()
	info := record.NewBatchInfo(base, 1000)
	info.Codec, info.LeaderEpoch = codec, epoch
	rs := make([]record.Record, n)
	for i := range rs {
		value := bytes.Repeat([]byte{fill}, size)
		copy(value, fmt.Sprint(base+int64(i)))
		rs[i] = record.Record{
			OffsetDelta: int32(i), TimestampDelta: int64(i), Key: fmt.Appendf(nil, "k%d", i), Value: value,
			Headers: []record.Header{{Key: "h", Value: []byte("v")}},
		}
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

// readAll reads a slice front to back in pieces of random sizes.
func readAll(t testing.TB, s core.Slice, rnd *rand.Rand) []byte {
	t.Helper()
	out := make([]byte, s.Len())
	for at := 0; at < len(out); {
		n := min(1+rnd.IntN(3000), len(out)-at)
		got, err := s.ReadAt(out[at:at+n], int64(at))
		if got != n || err != nil && (!errors.Is(err, io.EOF) || at+n != len(out)) {
			t.Fatalf("%d of %d bytes at %d: %v", got, n, at, err)
		}
		at += n
	}
	return out
}

// received is what a client of that time takes from an answer: whole messages, and
// nothing after the first that is not there to its end.
func received(t testing.TB, raw []byte, tr record.Transcoder) []record.Message {
	t.Helper()
	var all []record.Message
	for len(raw) >= record.LogOverhead {
		size := int(int32(binary.BigEndian.Uint32(raw[8:])))
		if size < 14 {
			t.Fatalf("a message of %d bytes, at which a client would stumble", size)
		}
		if record.LogOverhead+size > len(raw) {
			break
		}
		m, err := record.ParseMessage(raw[:record.LogOverhead+size])
		if err != nil {
			t.Fatal(err)
		}
		raw = raw[record.LogOverhead+size:]
		if m.Codec() == record.None {
			all = append(all, m)
			continue
		}
		if err := m.Unwrap(tr, nil, func(inner *record.Message) error { all = append(all, *inner); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func id(b byte) convert.Partition { return convert.Partition{Topic: core.TopicID{b}, Partition: 7} }

// Random logs: what a client gets is a beginning of what is in the log from its
// offset on, the first batch with something for it as a whole.
func TestMessages(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	codecs := []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		magic := int8(rnd.IntN(2))
		// What is below 0 of a batch's codec: a marker, an empty batch.
		var log []byte
		var offsets []int64 // of all records
		firsts := map[int64]int{}
		at := rnd.Int64N(5)
		for range 1 + rnd.IntN(8) {
			switch rnd.IntN(6) {
			case 0:
				log = record.AppendEndTxn(log, record.NewBatchInfo(at, 1000), record.EndTxn{})
				at++
			case 1:
				b, err := record.AppendBatch(nil, record.NewBatchInfo(at, 1000), nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				log = append(log, b...)
				at++
			default:
				n := 1 + rnd.IntN(5)
				log = append(log, batchAt(t, tr, at, 3, codecs[rnd.IntN(4)], n, 20+rnd.IntN(2000), 'x')...)
				for i := range int64(n) {
					offsets = append(offsets, at+i)
					firsts[at+i] = n - int(i)
				}
				at += int64(n)
			}
			at += rnd.Int64N(2) * rnd.Int64N(3)
		}
		from := rnd.Int64N(at + 1)
		want := offsets[sortedFrom(offsets, from):]
		c, _ := newConverter(t, int64(rnd.IntN(2)<<20))
		src := &source{data: log}
		s, err := c.Messages(src, convert.Request{Partition: id(1), Magic: magic, From: from, Keep: rnd.IntN(2) == 0})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if s == nil {
			if len(want) > 0 || src.closed != 1 {
				t.Fatalf("seed %d: nothing, but there are %d records; closed %d times", seed, len(want), src.closed)
			}
			continue
		}
		raw := readAll(t, s, rnd)
		got := received(t, raw, tr)
		// Of a wrapper with from in its middle, all comes, and the client drops what it has.
		got = slices.DeleteFunc(got, func(m record.Message) bool { return m.Offset < from })
		if len(got) < firsts[want[0]] || len(got) > len(want) {
			t.Fatalf("seed %d: %d messages from %d on; the first batch has %d, and %d are there", seed, len(got), from, firsts[want[0]], len(want))
		}
		for i, m := range got {
			if m.Offset != want[i] || m.Magic != magic || !bytes.HasPrefix(m.Value, fmt.Append(nil, want[i])) {
				t.Fatalf("seed %d: message %d of magic %d has offset %d, not %d, and %.20q", seed, i, m.Magic, m.Offset, want[i], m.Value)
			}
		}
		if again := readAll(t, s, rnd); !bytes.Equal(again, raw) {
			t.Fatalf("seed %d: other bytes when read again", seed)
		}
		if err := s.Close(); err != nil || src.closed != 1 {
			t.Fatalf("seed %d: closed %d times, %v", seed, src.closed, err)
		}
	}
}

func sortedFrom(offsets []int64, from int64) int {
	i, _ := slices.BinarySearch(offsets, from)
	return i
}

// What cannot be converted is an error where it comes first and the end where it
// does not.
func TestMessagesThatCannotBe(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	good := batchAt(t, tr, 0, 1, record.None, 3, 100, 'a')
	damaged := slices.Clone(batchAt(t, tr, 3, 1, record.None, 3, 100, 'b'))
	damaged[len(damaged)-1] ^= 1
	garbage := slices.Clone(batchAt(t, tr, 3, 1, record.Gzip, 3, 100, 'b'))
	clear(garbage[record.HeaderSize : record.HeaderSize+4])
	garbage.SetCRC()
	for name, tc := range map[string]struct {
		bad  []byte
		code int16
	}{
		"zstd":     {batchAt(t, tr, 3, 1, record.Zstd, 3, 100, 'b'), kerr.UnsupportedCompressionType.Code},
		"checksum": {damaged, kerr.CorruptMessage.Code},
		"no gzip":  {garbage, kerr.CorruptMessage.Code},
		"magic 3":  {append(slices.Clone(good[:16]), append([]byte{3}, good[17:]...)...), kerr.CorruptMessage.Code},
		"cut off":  {good[:len(good)-1], kerr.CorruptMessage.Code},
		"a few":    {good[:10], kerr.CorruptMessage.Code},
	} {
		c, _ := newConverter(t, 1<<20)
		src := &source{data: tc.bad}
		s, err := c.Messages(src, convert.Request{Partition: id(1), Magic: 1})
		if code, message := core.KafkaCode(err); s != nil || code != tc.code || message == "" || src.closed != 1 {
			t.Errorf("%s first: code %d, %q; closed %d times", name, code, message, src.closed)
		}
		src = &source{data: append(slices.Clone([]byte(good)), tc.bad...)}
		s, err = c.Messages(src, convert.Request{Partition: id(1), Magic: 1})
		if err != nil {
			t.Errorf("%s later: %v", name, err)
			continue
		}
		if got := received(t, readAll(t, s, rand.New(rand.NewPCG(1, 1))), tr); len(got) != 3 {
			t.Errorf("%s later: %d messages, want the 3 before it", name, len(got))
		}
		if err := s.Close(); err != nil || src.closed != 1 {
			t.Errorf("%s later: closed %d times, %v", name, src.closed, err)
		}
	}
}

// What an old Kafka has left in the log goes as it is to a client that knows it, and
// is converted once more from magic 1 to 0.
func TestMessagesOfAnOldLog(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	var log []byte
	var err error
	for i, magic := range []int8{0, 0, 1, 1, 2, 2} {
		b := batchAt(t, tr, int64(10*i), 3, []record.Codec{record.None, record.LZ4}[i%2], 10, 50, 'a')
		if magic == record.Magic2 {
			log = append(log, b...)
		} else if log, err = record.NewDownConverter(magic, tr).Append(log, b); err != nil {
			t.Fatal(err)
		}
	}
	for magic := range int8(2) {
		c, _ := newConverter(t, 1<<20)
		for _, from := range []int64{0, 5, 25, 30} {
			s, err := c.Messages(&source{data: log}, convert.Request{Partition: id(1), Magic: magic, From: from})
			if err != nil {
				t.Fatal(err)
			}
			got := received(t, readAll(t, s, rand.New(rand.NewPCG(1, 1))), tr)
			got = slices.DeleteFunc(got, func(m record.Message) bool { return m.Offset < from })
			if len(got) < 30-int(from) {
				t.Errorf("magic %d from %d: %d messages", magic, from, len(got))
			}
			for i, m := range got {
				if m.Offset != from+int64(i) || m.Magic > magic || !bytes.HasPrefix(m.Value, fmt.Append(nil, m.Offset)) {
					t.Fatalf("magic %d from %d: message %d has offset %d, magic %d and %q", magic, from, i, m.Offset, m.Magic, m.Value)
				}
			}
			_ = s.Close()
		}
	}
}

// A file that fails while it is sent ends the connection: nothing is made up.
func TestMessagesOfAFailingFile(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	c, _ := newConverter(t, 0)
	src := &source{data: append(batchAt(t, tr, 0, 1, record.None, 3, 100, 'a'), batchAt(t, tr, 3, 1, record.None, 3, 100, 'a')...)}
	s, err := c.Messages(src, convert.Request{Partition: id(1), Magic: 1, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	src.err = core.ErrStorage
	if n, err := s.ReadAt(make([]byte, s.Len()), 0); !errors.Is(err, core.ErrStorage) || n == 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := s.Close(); err != nil || src.closed != 1 {
		t.Errorf("closed %d times, %v", src.closed, err)
	}
}

// The cache answers for the same batch and for nothing that has taken its place.
func TestCache(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	c, cache := newConverter(t, 1<<20)
	batch := batchAt(t, tr, 5, 3, record.Gzip, 10, 500, 'a')
	fetch := func(p convert.Partition, magic int8, b record.Batch) (got []byte, read int) {
		t.Helper()
		src := &source{data: b}
		s, err := c.Messages(src, convert.Request{Partition: p, Magic: magic, Keep: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		cache.Wait()
		return readAll(t, s, rand.New(rand.NewPCG(1, 1))), src.read
	}
	first, _ := fetch(id(1), 1, batch)
	again, read := fetch(id(1), 1, batch)
	if diff := cmp.Diff(first, again); diff != "" || read != record.HeaderSize {
		t.Errorf("%d bytes were read for what is in the cache: %s", read, diff)
	}
	if got := cache.Stats(); got != (convert.CacheStats{Hits: 1, Misses: 1}) {
		t.Errorf("%+v", got)
	}
	same := slices.Clone(batch)
	same.SetLeaderEpoch(4)
	for name, tc := range map[string]struct {
		p     convert.Partition
		magic int8
		b     record.Batch
	}{
		"topic made again":    {id(2), 1, batchAt(t, tr, 5, 3, record.Gzip, 10, 500, 'b')},
		"same, in that topic": {id(3), 1, batch},
		"other partition":     {convert.Partition{Topic: core.TopicID{1}, Partition: 8}, 1, batch},
		"other magic":         {id(1), 0, batch},
		"truncated log":       {id(1), 1, same},
		"other records":       {id(1), 1, batchAt(t, tr, 5, 3, record.Gzip, 10, 500, 'c')},
		"compacted":           {id(1), 1, batchAt(t, tr, 5, 3, record.Gzip, 4, 500, 'a')},
	} {
		got, read := fetch(tc.p, tc.magic, tc.b)
		if read <= record.HeaderSize {
			t.Errorf("%s: answered from the cache", name)
		}
		plain, _ := newConverter(t, 0)
		s, err := plain.Messages(&source{data: tc.b}, convert.Request{Magic: tc.magic, Keep: true})
		if err != nil {
			t.Fatal(err)
		}
		if want := readAll(t, s, rand.New(rand.NewPCG(1, 1))); !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes than without a cache", name)
		}
		_ = s.Close()
	}
	// A topic whose id nobody knows could be any topic of that name.
	before := cache.Stats()
	for range 2 {
		if _, read := fetch(convert.Partition{}, 1, batch); read <= record.HeaderSize {
			t.Error("a topic without an id was answered from the cache")
		}
	}
	if cache.Stats() != before {
		t.Error("a topic without an id was looked for")
	}
}

// What is in the cache stays below its bound.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	tr := transcoder(t)
	const bound = 256 << 10
	c, cache := newConverter(t, bound)
	for i := range int64(200) {
		src := &source{data: batchAt(t, tr, i, 1, record.None, 10, 1000, 'a')}
		s, err := c.Messages(src, convert.Request{Partition: id(1), Magic: 1})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		cache.Wait()
		if used := cache.Bytes(); used > bound {
			t.Fatalf("%d bytes in a cache of %d", used, bound)
		}
	}
	if cache.Bytes() < bound/4 {
		t.Errorf("%d bytes in a cache of %d", cache.Bytes(), bound)
	}
	cache.Close()
	cache.Close()
	s, err := c.Messages(&source{data: batchAt(t, tr, 1, 1, record.None, 10, 1000, 'a')}, convert.Request{Partition: id(1), Magic: 1})
	if err != nil || s == nil {
		t.Fatalf("after the cache was closed: %v", err)
	}
	_ = s.Close()
}
