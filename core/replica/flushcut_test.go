package replica_test

import (
	"runtime"
	"testing"

	"github.com/millrace/millrace/core"
)

// TestFlushOfWhatIsCut: a flush that ends after a truncation says nothing of what is
// appended next.
func TestFlushOfWhatIsCut(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	cfg := topicConfig()
	cfg.FlushMessages = 10
	b := start(t, setup{clock: c, storage: f, topic: cfg})
	p := b.lead(1)
	hold := make(chan struct{})
	f.hold.Store(&hold)
	produce(t, p, batchOf(10, 10))
	for f.flushes.Load() == 0 {
		runtime.Gosched()
	}
	b.apply(core.TopicID{}, state(0, 2, 2, self, 2))
	if end, err := p.TruncateTo(t.Context(), 2); err != nil || end != 0 {
		t.Fatal(end, err)
	}
	next := make(chan struct{})
	f.hold.Store(&next)
	defer close(next)
	close(hold)
	for p.Flushing() {
		runtime.Gosched()
	}
	b.apply(core.TopicID{}, state(0, self, 3, self))
	produce(t, p, batchOf(10, 10))
	if hw := p.HighWatermark(); hw > 0 {
		t.Errorf("high watermark %d while nothing is flushed", hw)
	}
}
