package replica_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core/replica"
)

func TestAppendAndFetch(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(3)
	for i, n := range []int{1, 3, 2} {
		res := produce(t, p, batchOf(n, 100))
		if want := []int64{0, 1, 4}[i]; res.Base != want || res.Wait != 0 || res.LeaderEpoch != 3 || res.LogAppendTime != -1 {
			t.Errorf("append %d: %+v, want base %d and nothing to wait for", i, res, want)
		}
	}
	if got := fetched(t, p, 0, replica.ReadUncommitted); !cmp.Equal(got, []int64{0, 1, 2, 3, 4, 5}) {
		t.Errorf("fetched %v", got)
	}
	if hw := p.HighWatermark(); hw != 6 {
		t.Errorf("high watermark %d, want 6", hw)
	}
}
