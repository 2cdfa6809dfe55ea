package mmap_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// move copies the log to the other directory and lets the copy take its place.
func (v *life) move() error {
	ctx, id := context.Background(), logID()
	id.Future, id.Dir = true, v.dirs[0]
	if v.dir == id.Dir {
		id.Dir = v.dirs[1]
	}
	if err := v.st.Delete(ctx, id); err != nil { // an attempt before
		return v.hindered("delete future log", err)
	}
	f, _, err := v.st.Open(ctx, id, v.cfg)
	if err != nil {
		return v.hindered("open future log", err)
	}
	err = errors.Join(v.fillFuture(f), f.Close())
	if errors.Is(err, core.ErrNotFound) {
		return nil // only a batch takes a log past a gap
	}
	if err != nil {
		return v.hindered("fill future log", err)
	}
	if err := v.reopenLog(); err != nil || v.stopped {
		return err
	}
	v.dir = "" // one or the other
	if err := v.st.Promote(ctx, logID()); err != nil {
		return v.hindered("promote", err)
	}
	v.logf("  moved to %s", id.Dir)
	v.dir = id.Dir
	v.m.flushed, v.m.durableStart = v.m.end, v.m.start
	return nil
}

func (v *life) fillFuture(f core.Log) error {
	ctx := context.Background()
	got, err := contents(v.log)
	if err != nil {
		return err
	}
	start, end := v.log.Bounds()
	base := end
	if len(got) > 0 {
		if got[len(got)-1].NextOffset() != end {
			return fmt.Errorf("the log ends in a gap: %w", core.ErrNotFound)
		}
		base = min(start, got[0].BaseOffset())
	}
	err = f.ResetTo(ctx, base)
	for _, b := range got {
		if err == nil {
			_, err = f.Append(ctx, record.Batches(b))
		}
	}
	if err == nil {
		err = f.TrimTo(ctx, start)
	}
	for _, name := range v.m.blobs.names() {
		if err != nil {
			break
		}
		var data []byte
		if data, err = v.log.Blobs().Get(ctx, name); errors.Is(err, core.ErrNotFound) {
			err = nil
		} else if err == nil {
			err = f.Blobs().Put(ctx, name, data)
		}
	}
	return err
}
