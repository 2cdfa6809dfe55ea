package mmap

import (
	"fmt"
	"sync/atomic"

	"github.com/millrace/millrace/internal/vfs"
)

// dirt counts the changes of a directory's entries, and those of them that are
// durable. Whoever finds some that are not syncs them, even while another one is at
// it: only a sync that is over makes anything durable. Safe for concurrent use.
type dirt struct{ noted, synced atomic.Uint64 }

// note is called after entries have changed.
func (d *dirt) note() { d.noted.Add(1) }

// left reports changes that are not known to be durable.
func (d *dirt) left() bool { return d.synced.Load() < d.noted.Load() }

// sync returns when what was noted before is durable. After an error it is still
// left.
func (d *dirt) sync(fs vfs.FS, dir string) error {
	noted := d.noted.Load()
	if d.synced.Load() >= noted {
		return nil
	}
	if err := vfs.SyncDir(fs, dir); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	for {
		before := d.synced.Load()
		if before >= noted || d.synced.CompareAndSwap(before, noted) {
			return nil
		}
	}
}
