package mmap_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// replaceConfig has small indexes: a disk in memory holds them whole.
func replaceConfig() core.LogConfig {
	cfg := small(1 << 20)
	cfg.IndexBytes = 4096
	return cfg
}

// replaced makes a log with the offsets [0, 40) in four segments on the disk,
// flushed.
func replaced(t *testing.T, fs vfs.FS) (*mmap.Storage, core.Log) {
	t.Helper()
	if err := errors.Join(fs.MkdirAll("/data", 0o755), vfs.SyncDir(fs, "/")); err != nil {
		t.Fatal(err)
	}
	s := openFS(t, fs, "/data")
	l, _ := openLog(t, s, logID(), replaceConfig())
	for base := int64(0); base < 40; base += 10 {
		if err := l.Roll(context.Background(), base); err != nil {
			t.Fatal(err)
		}
		fill(t, l, base, base+10, 150)
	}
	if err := l.Flush(context.Background(), 40); err != nil {
		t.Fatal(err)
	}
	return s, l
}

// swap replaces [10, 30) by the batches at these offsets.
func swap(t *testing.T, l core.Log, keep []int64) error {
	t.Helper()
	ctx := context.Background()
	r, err := l.(core.Replacer).Replace(ctx, 10, 30)
	if err != nil {
		return err
	}
	for _, o := range keep {
		if err = r.Append(ctx, record.Batches(batch(t, o, 1, 150))); err != nil {
			break
		}
	}
	if err == nil {
		err = r.Commit(ctx)
	}
	return errors.Join(err, r.Abort())
}

func between(from, to int64) []int64 {
	var out []int64
	for o := from; o < to; o++ {
		out = append(out, o)
	}
	return out
}

// sound checks a log that a replacement was made in: it has come about or it has not,
// and with done set it has.
func sound(t *testing.T, l core.Log, keep []int64, done bool) {
	t.Helper()
	want := slices.Concat(between(0, 10), keep, between(30, 40))
	got := readAll(t, l)
	if done && !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if !slices.Equal(got, want) && !slices.Equal(got, between(0, 40)) {
		t.Fatalf("got %v, which is neither what was there nor %v", got, want)
	}
	next := int64(-1)
	for _, seg := range l.State().Segments {
		if seg.Base < next {
			t.Fatalf("segments overlap: %+v", l.State().Segments)
		}
		next = seg.End
	}
}

// TestReplacePowerCut cuts the power at each call of a replacement, on disks that
// keep the order of operations on directories and on those that do not.
func TestReplacePowerCut(t *testing.T) {
	t.Parallel()
	for _, unordered := range []bool{false, true} {
		for _, keep := range [][]int64{{11, 17, 27}, {12}, nil} {
			t.Run(fmt.Sprintf("unordered=%v/keep=%v", unordered, keep), func(t *testing.T) {
				t.Parallel()
				done := false
				each(t, &done, func(t *testing.T, cut int64) {
					for seed := range uint64(4) {
						rnd := rand.New(rand.NewPCG(seed, uint64(cut)))
						disk := vfstest.NewDisk(vfstest.Options{Rand: rnd, Unordered: unordered})
						faults := vfstest.NewFaults(disk, nil)
						_, l := replaced(t, faults)
						from := faults.Calls()
						faults.Decide(func(op vfstest.Op) (f vfstest.Fault) {
							if op.Seq >= from+cut {
								f.Err = vfstest.ErrPower
							}
							return f
						})
						err := swap(t, l, keep)
						done = err == nil
						if seed == 0 {
							disk = disk.Kill()
						} else {
							disk = disk.Crash(rnd)
						}
						s := openFS(t, disk, "/data")
						again, rec := openLog(t, s, logID(), replaceConfig())
						if rec.Truncated != 0 {
							t.Fatalf("call %d, seed %d: recovered %+v", cut, seed, rec)
						}
						sound(t, again, keep, done)
						entries, err := disk.ReadDir("/data/t-0")
						if err != nil {
							t.Fatal(err)
						}
						for _, e := range entries {
							if strings.Contains(e.Name(), ".cleaned") || strings.Contains(e.Name(), ".swap") {
								t.Fatalf("call %d, seed %d: %s is left", cut, seed, e.Name())
							}
						}
						fill(t, again, 40, 42, 10)
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
					}
				})
			})
		}
	}
}

// TestReplaceFaults lets each call of a replacement fail by itself. A log that
// stays online goes on; one that goes offline is whole when it is opened again.
func TestReplaceFaults(t *testing.T) {
	t.Parallel()
	keep := []int64{11, 17}
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for at := int64(0); ; at++ {
			disk := vfstest.NewDisk(vfstest.Options{})
			faults := vfstest.NewFaults(disk, nil)
			s, l := replaced(t, faults)
			from, hit := faults.Calls(), false
			faults.Decide(func(op vfstest.Op) (f vfstest.Fault) {
				if op.Seq == from+at {
					hit, f.Err = true, cause
				}
				return f
			})
			err := swap(t, l, keep)
			if !hit {
				break
			}
			faults.Decide(nil)
			sound(t, l, keep, err == nil)
			if _, err := l.Append(context.Background(), record.Batches(batch(t, 40, 1, 10))); err == nil {
				// It has stayed online: another attempt succeeds.
				if _, err := l.TruncateTo(context.Background(), 40); err != nil {
					t.Fatal(err)
				}
				if len(l.State().Segments) == 4 {
					if err := swap(t, l, keep); err != nil {
						t.Fatalf("call %d: %v", at, err)
					}
				}
				sound(t, l, keep, true)
			} else if !errors.Is(err, core.ErrStorage) {
				t.Fatalf("call %d: %v", at, err)
			}
			_ = s.Close()
			s = openFS(t, disk, "/data")
			again, _ := openLog(t, s, logID(), replaceConfig())
			sound(t, again, keep, false)
			fill(t, again, 40, 42, 10)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
