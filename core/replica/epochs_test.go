package replica

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
)

var cmpEpochs = cmp.AllowUnexported(epochEntry{})

func epochsOf(pairs ...int64) epochCache {
	var c epochCache
	for i := 0; i < len(pairs); i += 2 {
		c = append(c, epochEntry{int32(pairs[i]), pairs[i+1]})
	}
	return c
}

// The cases are those in which Kafka's LeaderEpochFileCache is pinned down by its
// own tests: what is assigned, what is overwritten, what is asked for.
func TestEpochAssign(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		have    epochCache
		epoch   int32
		start   int64
		want    epochCache
		changed bool
	}{
		"first":                                  {nil, 2, 6, epochsOf(2, 6), true},
		"next":                                   {epochsOf(2, 6), 3, 9, epochsOf(2, 6, 3, 9), true},
		"same epoch later is no change":          {epochsOf(2, 6), 2, 10, epochsOf(2, 6), false},
		"same epoch and offset is no change":     {epochsOf(2, 6), 2, 6, epochsOf(2, 6), false},
		"same epoch earlier moves it":            {epochsOf(1, 0, 2, 6), 2, 4, epochsOf(1, 0, 2, 4), true},
		"new epoch at the same offset wins":      {epochsOf(2, 6), 3, 6, epochsOf(3, 6), true},
		"earlier offset drops what contradicts":  {epochsOf(2, 6, 3, 10, 4, 12), 5, 8, epochsOf(2, 6, 5, 8), true},
		"lower epoch drops higher ones":          {epochsOf(2, 6, 3, 10), 2, 12, epochsOf(2, 12), true},
		"unseen lower epoch drops higher ones":   {epochsOf(0, 0, 2, 6), 1, 7, epochsOf(0, 0, 1, 7), true},
		"epoch zero at offset zero":              {nil, 0, 0, epochsOf(0, 0), true},
		"earlier than everything drops them all": {epochsOf(2, 6, 3, 10), 4, 0, epochsOf(4, 0), true},
	} {
		before := append(epochCache(nil), tc.have...)
		got, changed := tc.have.assign(tc.epoch, tc.start)
		if diff := cmp.Diff(tc.want, got, cmpEpochs); diff != "" || changed != tc.changed {
			t.Errorf("%s: changed %v, %s", name, changed, diff)
		}
		if diff := cmp.Diff(before, tc.have, cmpEpochs); diff != "" {
			t.Errorf("%s: the old cache was changed: %s", name, diff)
		}
	}
}

func TestEpochEnd(t *testing.T) {
	t.Parallel()
	c := epochsOf(2, 6, 3, 11, 7, 20)
	const end = 33
	for _, tc := range []struct {
		epoch int32
		want  EpochEnd
	}{
		{-1, EpochEnd{undefined, undefined}},
		{0, EpochEnd{0, 6}},  // below the first: where the log begins to be known
		{1, EpochEnd{1, 6}},  //
		{2, EpochEnd{2, 11}}, // the start of the next
		{3, EpochEnd{3, 20}},
		{4, EpochEnd{3, 20}}, // missing: the highest below it
		{6, EpochEnd{3, 20}},
		{7, EpochEnd{7, end}}, // the latest ends with the log
		{8, EpochEnd{undefined, undefined}},
	} {
		if got := c.endOf(tc.epoch, end); got != tc.want {
			t.Errorf("end of epoch %d: %+v, want %+v", tc.epoch, got, tc.want)
		}
	}
	if got := epochCache(nil).endOf(0, end); got != (EpochEnd{undefined, undefined}) {
		t.Errorf("end of an epoch in an empty cache: %+v", got)
	}
}

func TestEpochTruncation(t *testing.T) {
	t.Parallel()
	c := epochsOf(2, 6, 3, 8, 4, 11)
	for _, tc := range []struct {
		end  int64
		want epochCache
	}{
		{12, c}, {11, c[:2]}, {9, c[:2]}, {8, c[:1]}, {7, c[:1]}, {6, c[:0]}, {0, c[:0]},
	} {
		got, changed := c.truncateEnd(tc.end)
		if diff := cmp.Diff(tc.want, got, cmpEpochs); diff != "" || changed != (len(tc.want) != len(c)) {
			t.Errorf("end at %d: changed %v, %s", tc.end, changed, diff)
		}
	}
	for _, tc := range []struct {
		start int64
		want  epochCache
	}{
		{5, c}, {6, c}, // nothing lies below
		{7, epochsOf(2, 7, 3, 8, 4, 11)}, // the epoch of the new start begins there
		{8, epochsOf(3, 8, 4, 11)},
		{9, epochsOf(3, 9, 4, 11)},
		{11, epochsOf(4, 11)},
		{15, epochsOf(4, 15)}, // the latest is never lost
	} {
		got, changed := c.truncateStart(tc.start)
		if diff := cmp.Diff(tc.want, got, cmpEpochs); diff != "" || changed == cmp.Equal(c, tc.want, cmpEpochs) {
			t.Errorf("start at %d: changed %v, %s", tc.start, changed, diff)
		}
	}
	if diff := cmp.Diff(epochsOf(2, 6, 3, 8, 4, 11), c, cmpEpochs); diff != "" {
		t.Errorf("the cache was changed: %s", diff)
	}
}

func TestEpochAt(t *testing.T) {
	t.Parallel()
	c := epochsOf(2, 6, 3, 8)
	for offset, want := range map[int64]int32{0: undefined, 5: undefined, 6: 2, 7: 2, 8: 3, 100: 3} {
		if got := c.at(offset); got != want {
			t.Errorf("epoch of offset %d: %d, want %d", offset, got, want)
		}
	}
}

func TestEpochFile(t *testing.T) {
	t.Parallel()
	c := epochsOf(0, 0, 2, 6, 3, 8)
	data := c.encode()
	if want := "0\n3\n0 0\n2 6\n3 8\n"; string(data) != want {
		t.Errorf("encoded %q, want %q", data, want)
	}
	got, err := parseEpochs(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got, cmpEpochs); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{
		"", "1\n0\n", "0\n", "0\nx\n", "0\n2\n0 0\n", "0\n1\n0 0\n1 1\n", "0\n1\n0\n", "0\n1\n-1 0\n", "0\n1\n0 -5\n",
		"0\n2\n1 0\n1 5\n", "0\n2\n1 5\n2 4\n", "0\n1\n99999999999 0\n",
	} {
		if _, err := parseEpochs([]byte(bad)); !errors.Is(err, core.ErrCorrupt) {
			t.Errorf("%q: error %v, want one that wraps ErrCorrupt", bad, err)
		}
	}
}

func FuzzEpochFile(f *testing.F) {
	f.Add([]byte("0\n3\n0 0\n2 6\n3 8\n"))
	f.Add([]byte("0\n0\n"))
	f.Add([]byte("0\r\n1\r\n5 100\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseEpochs(data)
		if err != nil {
			return
		}
		again, err := parseEpochs(c.encode())
		if err != nil || !cmp.Equal(c, again, cmpEpochs) {
			t.Errorf("%q: read %v, and %v (%v) after writing that", data, c, again, err)
		}
	})
}
