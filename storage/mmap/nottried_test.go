package mmap

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// TestNotTried: one call that has failed otherwise is enough.
func TestNotTried(t *testing.T) {
	t.Parallel()
	untried := vfs.OpenError(syscall.EMFILE, 0)
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{untried, true},
		{fmt.Errorf("open: %w", untried), true},
		{errors.Join(untried, nil), true},
		{errors.Join(untried, fmt.Errorf("again: %w", untried)), true},
		{fmt.Errorf("write checkpoint: %w: %w", core.ErrNotTried, untried), true},
		{syscall.EMFILE, false}, // a sync may answer that
		{errors.Join(untried, syscall.EIO), false},
		{errors.Join(syscall.EIO, untried), false},
		{fmt.Errorf("%w: %w", core.ErrStorage, untried), false},
		{errors.Join(errors.Join(untried, errors.Join(syscall.ENOMEM)), untried), false},
	} {
		if got := notTried(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
