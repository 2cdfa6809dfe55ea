package storagetest

import (
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
)

func storageCases() []testCase {
	return []testCase{
		{name: "Dirs", run: dirs},
		{name: "Identify", run: identify},
		{name: "List", run: list},
		{name: "OpenTwice", run: openTwice},
		{name: "TopicID", run: topicID},
		{name: "Delete", run: deleteLog},
		{name: "Future", run: future},
		{name: "Checkpoints", run: checkpoints},
		{name: "StorageClose", run: storageClose},
	}
}

func topicUUID(n byte) core.TopicID { return core.TopicID{0: n, 15: 1} }

func dirs(h *harness) {
	ds, err := h.s.Dirs(h.ctx)
	h.ok(err)
	if len(ds) == 0 {
		h.Fatal("no directory")
	}
	for _, d := range ds {
		if d.Err != nil || d.Total < -1 || d.Usable > d.Total {
			h.Fatalf("got %+v", d)
		}
	}
	l := h.openLog(id("t", 0))
	if dir := l.State().Dir; !slices.ContainsFunc(ds, func(d core.Dir) bool { return d.Path == dir }) {
		h.Fatalf("log is in %q, which is not one of %+v", dir, ds)
	}
}

func identify(h *harness) {
	me := core.Identity{BrokerID: 3, ClusterID: "Zk-1_aBcDeFgHiJkLmNoPq"}
	h.ok(h.s.Identify(h.ctx, me))
	h.ok(h.s.Identify(h.ctx, me))
	h.is(h.s.Identify(h.ctx, core.Identity{BrokerID: 4, ClusterID: me.ClusterID}), core.ErrForeignStorage)
	h.is(h.s.Identify(h.ctx, core.Identity{BrokerID: 3, ClusterID: "other"}), core.ErrForeignStorage)
	h.ok(h.s.Identify(h.ctx, me))
}

// listed is List with the directories checked and taken out.
func (h *harness) listed() []core.LogID {
	h.Helper()
	ids, err := h.s.List(h.ctx)
	h.ok(err)
	ds, err := h.s.Dirs(h.ctx)
	h.ok(err)
	for i := range ids {
		if !slices.ContainsFunc(ds, func(d core.Dir) bool { return d.Path == ids[i].Dir }) {
			h.Fatalf("%+v is in an unknown directory", ids[i])
		}
		ids[i].Dir = ""
	}
	slices.SortFunc(ids, func(a, b core.LogID) int {
		return slices.Compare([]byte(a.String()), []byte(b.String()))
	})
	return ids
}

func (h *harness) lists(want ...core.LogID) {
	h.Helper()
	if got := h.listed(); !slices.Equal(got, want) {
		h.Fatalf("listed %+v, want %+v", got, want)
	}
}

func list(h *harness) {
	h.lists()
	a, b, c := id("a-b.c_d", 0), id("t", 1), id("t", 10)
	b.TopicID = topicUUID(7)
	la := h.openLog(a)
	h.openLog(b)
	h.openLog(c)
	h.lists(a, b, c)
	h.ok(la.Close())
	h.lists(a, b, c)
}

func openTwice(h *harness) {
	l := h.openLog(id("t", 0))
	_, _, err := h.s.Open(h.ctx, id("t", 0), h.cfg)
	h.is(err, core.ErrLogOpen)
	other := h.openLog(id("t", 1))
	h.fill(l, 0, 3, 10)
	h.bounds(other, 0, 0)
	h.ok(l.Close())
	l, rec := h.openRecovered(id("t", 0))
	if rec.Created {
		h.Fatal("an existing log is reported as created")
	}
	h.bounds(l, 0, 3)
}

func topicID(h *harness) {
	first := id("t", 0)
	l := h.openLog(first)
	h.fill(l, 0, 3, 10)
	h.ok(l.Close())

	first.TopicID = topicUUID(1)
	h.ok(h.openLog(first).Close()) // a log without an id takes the first it is given
	h.lists(first)
	wrong := first
	wrong.TopicID = topicUUID(2)
	_, _, err := h.s.Open(h.ctx, wrong, h.cfg)
	h.is(err, core.ErrWrongTopicID)
	h.ok(h.openLog(id("t", 0)).Close()) // unknown to the caller: no conflict

	h.ok(h.s.Delete(h.ctx, first))
	l, rec := h.openRecovered(wrong)
	if !rec.Created {
		h.Fatal("the log of a deleted topic came back")
	}
	h.bounds(l, 0, 0)
	h.lists(wrong)
}

func deleteLog(h *harness) {
	l := h.openLog(id("t", 0))
	keep := h.openLog(id("t", 1))
	h.fill(l, 0, 10, 10)
	h.fill(keep, 0, 10, 10)
	h.ok(l.TrimTo(h.ctx, 7))
	h.ok(l.Blobs().Put(h.ctx, "leader-epoch-checkpoint", []byte("x")))
	h.is(h.s.Delete(h.ctx, id("t", 0)), core.ErrLogOpen)
	h.fill(l, 10, 12, 10)
	for kind := core.HighWatermarks; kind <= core.CleanerPoints; kind++ {
		h.ok(h.s.Checkpoint(h.ctx, kind, map[core.TopicPartition]int64{
			id("t", 0).TopicPartition: 9, id("t", 1).TopicPartition: 5,
		}))
	}
	h.ok(l.Close())
	h.ok(h.s.Delete(h.ctx, id("t", 0)))
	h.ok(h.s.Delete(h.ctx, id("t", 0)))
	h.ok(h.s.Delete(h.ctx, id("never", 0)))
	h.lists(id("t", 1))
	for kind := core.HighWatermarks; kind <= core.CleanerPoints; kind++ {
		at, err := h.s.Checkpoints(h.ctx, kind)
		h.ok(err)
		if want := (map[core.TopicPartition]int64{id("t", 1).TopicPartition: 5}); !maps.Equal(at, want) {
			h.Fatalf("checkpoint %d after a delete: %v", kind, at)
		}
	}
	l, rec := h.openRecovered(id("t", 0))
	if !rec.Created {
		h.Fatal("a deleted log came back")
	}
	h.bounds(l, 0, 0)
	names, err := l.Blobs().List(h.ctx)
	h.ok(err)
	if len(names) != 0 {
		h.Fatalf("blobs of a deleted log came back: %q", names)
	}
	h.equal(h.all(keep, 0), seq(0, 10))
}

func future(h *harness) {
	cur := id("t", 0)
	fut := cur
	fut.Future = true
	h.is(h.s.Promote(h.ctx, cur), core.ErrNotFound)
	l, f := h.openLog(cur), h.openLog(fut)
	h.fill(l, 0, 5, 10)
	h.fill(f, 0, 3, 20)
	h.is(h.s.Promote(h.ctx, cur), core.ErrLogOpen)
	if n := len(h.listed()); n != 2 {
		h.Fatalf("%d logs listed, want the current and the future one", n)
	}
	h.ok(f.Close())
	h.is(h.s.Promote(h.ctx, cur), core.ErrLogOpen)
	h.ok(l.Close())
	said := map[core.TopicPartition]int64{cur.TopicPartition: 2}
	for _, kind := range []core.CheckpointKind{core.HighWatermarks, core.LogStarts, core.CleanerPoints} {
		h.ok(h.s.Checkpoint(h.ctx, kind, said))
	}
	h.ok(h.s.Promote(h.ctx, cur))
	h.lists(cur)
	for _, kind := range []core.CheckpointKind{core.HighWatermarks, core.LogStarts, core.CleanerPoints} {
		h.checkpointIs(kind, said)
	}
	h.ok(h.s.Checkpoint(h.ctx, core.LogStarts, nil))
	l = h.openLog(cur)
	h.equal(h.all(l, 0), seq(0, 3))
	f = h.openLog(fut)
	h.bounds(f, 0, 0)
	h.ok(f.Close())
	h.ok(h.s.Delete(h.ctx, fut))
	h.lists(cur)
}

func checkpoints(h *harness) {
	a, b := id("t", 0).TopicPartition, id("some-topic", 12).TopicPartition
	h.openLog(id("t", 0))
	for kind := core.HighWatermarks; kind <= core.CleanerPoints; kind++ {
		at, err := h.s.Checkpoints(h.ctx, kind)
		h.ok(err)
		if len(at) != 0 {
			h.Fatalf("checkpoint %d was never written and has %v", kind, at)
		}
		want := map[core.TopicPartition]int64{a: int64(kind), b: 1 << 40}
		given := maps.Clone(want)
		h.ok(h.s.Checkpoint(h.ctx, kind, given))
		given[a] = 99 // borrowed
		h.checkpointIs(kind, want)
	}
	want := map[core.TopicPartition]int64{b: 3}
	h.ok(h.s.Checkpoint(h.ctx, core.LogStarts, want))
	h.checkpointIs(core.LogStarts, want)
	h.ok(h.s.Checkpoint(h.ctx, core.LogStarts, nil))
	h.checkpointIs(core.LogStarts, nil)
	h.checkpointIs(core.HighWatermarks, map[core.TopicPartition]int64{a: 0, b: 1 << 40})
}

func (h *harness) checkpointIs(kind core.CheckpointKind, want map[core.TopicPartition]int64) {
	h.Helper()
	got, err := h.s.Checkpoints(h.ctx, kind)
	h.ok(err)
	if !maps.Equal(got, want) {
		h.Fatalf("checkpoint %d has %v, want %v", kind, got, want)
	}
	clear(got) // the caller's own
}

func storageClose(h *harness) {
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 3, 10)
	events := h.s.Events()
	h.ok(h.s.Close())
	h.ok(h.s.Close())
	if _, open := <-events; open {
		h.Fatal("an event from a storage in which nothing failed")
	}
	_, err := l.Read(h.ctx, core.ReadRequest{From: 0, Below: 3, MaxBytes: 10, MinOneBatch: true})
	h.is(err, core.ErrClosed)
	h.ok(l.Close())
	_, err = h.s.Dirs(h.ctx)
	h.is(err, core.ErrClosed)
	_, err = h.s.List(h.ctx)
	h.is(err, core.ErrClosed)
	_, _, err = h.s.Open(h.ctx, id("t", 0), h.cfg)
	h.is(err, core.ErrClosed)
	_, err = h.s.Checkpoints(h.ctx, core.LogStarts)
	h.is(err, core.ErrClosed)
	h.is(h.s.Checkpoint(h.ctx, core.LogStarts, nil), core.ErrClosed)
	h.is(h.s.Identify(h.ctx, core.Identity{}), core.ErrClosed)
	h.is(h.s.Delete(h.ctx, id("t", 0)), core.ErrClosed)
	h.is(h.s.Promote(h.ctx, id("t", 0)), core.ErrClosed)
}

func durableCases() []testCase {
	return []testCase{
		{name: "ReopenLog", run: reopenLog, durable: true},
		{name: "ReopenStorage", run: reopenStorage, durable: true},
		{name: "ReopenAfterChanges", run: reopenChanged, durable: true},
	}
}

func reopenLog(h *harness) {
	h.small(1000)
	tid := id("t", 0)
	tid.TopicID = topicUUID(3)
	l := h.openLog(tid)
	h.fill(l, 0, 60, 100)
	h.ok(l.TrimTo(h.ctx, 33))
	h.ok(l.Blobs().Put(h.ctx, "leader-epoch-checkpoint", []byte("x")))
	before := l.State()
	h.reopen()
	h.lists(tid)
	l, rec := h.openRecovered(tid)
	if !rec.Clean || rec.Created || rec.Scanned != 0 || rec.Truncated != 0 {
		h.Fatalf("after a clean shutdown: %+v", rec)
	}
	h.bounds(l, 33, 60)
	after := l.State()
	for i := range after.Segments {
		after.Segments[i].Modified = before.Segments[i].Modified
	}
	if !slices.Equal(before.Segments, after.Segments) {
		h.Fatalf("segments before:\n%+v\nand after:\n%+v", before.Segments, after.Segments)
	}
	h.equal(h.all(l, 33), seq(33, 60))
	got, err := l.Blobs().Get(h.ctx, "leader-epoch-checkpoint")
	h.ok(err)
	if string(got) != "x" {
		h.Fatalf("got blob %q", got)
	}
	h.fill(l, 60, 90, 100)
	h.equal(h.all(l, 33), seq(33, 90))
}

func reopenStorage(h *harness) {
	me := core.Identity{BrokerID: 1, ClusterID: "c"}
	h.ok(h.s.Identify(h.ctx, me))
	h.openLog(id("t", 0))
	hw := map[core.TopicPartition]int64{id("t", 0).TopicPartition: 17, id("gone", 3).TopicPartition: 4}
	h.ok(h.s.Checkpoint(h.ctx, core.HighWatermarks, hw))
	h.reopen()
	h.checkpointIs(core.HighWatermarks, hw)
	h.ok(h.s.Identify(h.ctx, me))
	h.is(h.s.Identify(h.ctx, core.Identity{BrokerID: 2, ClusterID: "c"}), core.ErrForeignStorage)
}

func reopenChanged(h *harness) {
	h.small(1000)
	empty, truncated, reset, trimmed := h.openLog(id("t", 0)), h.openLog(id("t", 1)), h.openLog(id("t", 2)), h.openLog(id("t", 3))
	for _, l := range []core.Log{truncated, reset, trimmed} {
		h.fill(l, 0, 60, 100)
	}
	h.truncate(truncated, 25, 25)
	h.ok(reset.ResetTo(h.ctx, 500))
	h.ok(trimmed.TrimTo(h.ctx, 60))
	h.bounds(empty, 0, 0)
	h.reopen()
	for p, want := range [][2]int64{{0, 0}, {0, 25}, {500, 500}, {60, 60}} {
		l := h.openLog(id("t", int32(p)))
		h.bounds(l, want[0], want[1])
		h.equal(h.all(l, want[0]), seq(want[0], want[1]))
		h.fill(l, want[1], want[1]+30, 100)
		h.equal(h.all(l, want[0]), seq(want[0], want[1]+30))
	}
}
