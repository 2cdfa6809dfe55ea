package convert_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/leaktest"
)

// endless is a run of n copies of a batch, which exist only while they are read.
type endless struct {
	batch record.Batch
	n     int
}

func (s *endless) Len() int                    { return s.n * len(s.batch) }
func (*endless) File() (*os.File, int64, bool) { return nil, 0, false }
func (*endless) Close() error                  { return nil }
func (s *endless) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= int64(s.Len()) {
			return n, io.EOF
		}
		i := at / int64(len(s.batch))
		s.batch.SetBaseOffset(i * int64(s.batch.Count()))
		n += copy(p[n:], s.batch[at-i*int64(len(s.batch)):])
	}
	return n, nil
}

// A fetch of 100 MB by an old client takes the memory of a few batches and of the
// cache: not of 100 MB. It is not parallel, as it looks at the heap of the process.
func TestMemoryOfALargeFetch(t *testing.T) {
	tr := transcoder(t)
	const total, cacheBytes, batchBytes, allowed = 100 << 20, 2 << 20, 512 << 10, 8 << 20
	for _, codec := range []record.Codec{record.None, record.LZ4} {
		batch := batchAt(t, tr, 0, 1, codec, batchBytes/1000, 980, 'a')
		c, _ := newConverter(t, cacheBytes)
		src := &endless{batch, total / len(batch)}
		if codec != record.None {
			src.n = min(src.n, 100) // 50 MB that come out of it
		}
		before := leaktest.Heap()
		s, err := c.Messages(src, convert.Request{Partition: id(1), Magic: 1})
		if err != nil {
			t.Fatal(err)
		}
		buf, peak, at := make([]byte, 128<<10), int64(0), int64(0)
		for i := 0; at < int64(s.Len()); i++ {
			n, err := s.ReadAt(buf[:min(int64(len(buf)), int64(s.Len())-at)], at)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if at += int64(n); i%80 == 0 {
				peak = max(peak, leaktest.Heap()-before)
			}
		}
		if peak > allowed {
			t.Errorf("%s: %d MB of %d MB are in memory", codec, peak>>20, s.Len()>>20)
		}
		t.Logf("%s: %.1f MB in memory while %d MB were sent", codec, float64(peak)/(1<<20), s.Len()>>20)
		_ = s.Close()
	}
}

// The first batches of many partitions wait for their turn as they are in the log. It
// is not parallel either.
func TestMemoryOfManyPartitions(t *testing.T) {
	tr := transcoder(t)
	batch := batchAt(t, tr, 0, 1, record.None, 1000, 1000, 'a')
	c, _ := newConverter(t, 0)
	before := leaktest.Heap()
	var all []core.Slice
	for range 100 {
		s, err := c.Messages(&endless{batch, 1}, convert.Request{Partition: id(1), Magic: 1})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if used := leaktest.Heap() - before; used > 8<<20 {
		t.Errorf("%d MB wait in memory for 100 MB", used>>20)
	}
	for _, s := range all {
		_ = s.Close()
	}
}
