package storagetest

import (
	"errors"

	"github.com/millrace/millrace/core"
)

func shortageCases() []testCase {
	return []testCase{
		{name: "Shortage", run: shortage, short: true},
		{name: "ShortageAtOpen", run: shortageAtOpen, short: true, durable: true},
	}
}

// shortage has the system run out of something: what needs it is not tried, nothing
// goes offline, nothing is taken for durable, and all goes on when there is some again.
func shortage(h *harness) {
	h.small(300)
	me := id("t", 0)
	l := h.openLog(me)
	h.fill(l, 0, 5, 100)
	h.ok(l.Flush(h.ctx, 5))
	h.ok(l.Blobs().Put(h.ctx, "leader-epoch-checkpoint", []byte("before")))
	h.ok(h.s.Checkpoint(h.ctx, core.HighWatermarks, map[core.TopicPartition]int64{me.TopicPartition: 3}))
	h.fill(l, 5, 20, 100) // several segments
	flushed := l.State().Flushed

	h.o.Short(h.s, true)
	refused := 0
	for what, call := range map[string]func() error{
		"a flush":     func() error { return l.Flush(h.ctx, 20) },
		"a blob":      func() error { return l.Blobs().Put(h.ctx, "leader-epoch-checkpoint", []byte("after")) },
		"a roll":      func() error { return l.Roll(h.ctx, 20) },
		"another log": func() error { _, _, err := h.s.Open(h.ctx, id("t", 1), h.cfg); return err },
		"a checkpoint": func() error {
			return h.s.Checkpoint(h.ctx, core.HighWatermarks, map[core.TopicPartition]int64{me.TopicPartition: 9})
		},
	} {
		err := call()
		if err == nil {
			continue // it needs nothing
		}
		refused++
		if !errors.Is(err, core.ErrNotTried) || errors.Is(err, core.ErrStorage) {
			h.Errorf("%s fails with %v, want %v", what, err, core.ErrNotTried)
		}
		if what == "a flush" && l.State().Flushed != flushed {
			h.Errorf("flushed is %d after a flush that was not tried, and was %d", l.State().Flushed, flushed)
		}
	}
	if refused == 0 {
		h.Error("nothing is short of anything")
	}
	h.bounds(l, 0, 20)
	h.o.Short(h.s, false)

	ds, err := h.s.Dirs(h.ctx)
	h.ok(err)
	for _, d := range ds {
		h.ok(d.Err)
	}
	if refused == 5 {
		if data, err := l.Blobs().Get(h.ctx, "leader-epoch-checkpoint"); err != nil || string(data) != "before" {
			h.Errorf("the blob is %q, %v", data, err)
		}
		if at, err := h.s.Checkpoints(h.ctx, core.HighWatermarks); err != nil || at[me.TopicPartition] != 3 {
			h.Errorf("the checkpoint is %v, %v", at, err)
		}
	}
	h.fill(l, 20, 30, 100)
	h.ok(l.Flush(h.ctx, 30))
	if st := l.State(); st.Flushed != 30 {
		h.Errorf("flushed is %d, want 30", st.Flushed)
	}
	h.ok(l.Roll(h.ctx, 30))
	h.ok(l.Blobs().Put(h.ctx, "leader-epoch-checkpoint", []byte("after")))
	h.ok(h.s.Checkpoint(h.ctx, core.HighWatermarks, map[core.TopicPartition]int64{me.TopicPartition: 9}))
	h.equal(h.all(l, 0), seq(0, 30))
}

// shortageAtOpen: a log that cannot be opened is there as it was when it can.
func shortageAtOpen(h *harness) {
	h.small(300)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 20, 100)
	h.reopen()
	h.o.Short(h.s, true)
	_, _, err := h.s.Open(h.ctx, id("t", 0), h.cfg)
	h.is(err, core.ErrNotTried)
	h.o.Short(h.s, false)
	l = h.openLog(id("t", 0))
	h.equal(h.all(l, 0), seq(0, 20))
	ds, err := h.s.Dirs(h.ctx)
	h.ok(err)
	for _, d := range ds {
		h.ok(d.Err)
	}
}
