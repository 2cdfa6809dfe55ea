package mmap_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// TestFullFileSystem fills a real file system of 1 MiB, where it may mount one: both
// ways of writing, through the mapping and by pwrite.
func TestFullFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	s := openFS(t, quick{}, filepath.Join(dir, "logs"))
	l, _ := openLog(t, s, logID(), small(150_000))
	ballast := filepath.Join(dir, "ballast")
	write(t, ballast, make([]byte, 500_000))
	refused, next := 0, int64(0)
	for next < 300 {
		_, err := l.Append(ctx, record.Batches(batch(t, next, 1, []int{200, 6000, 9000}[next%3])))
		if err == nil {
			next++
			continue
		}
		if !errors.Is(err, core.ErrNoSpace) || errors.Is(err, core.ErrStorage) {
			t.Fatalf("got %v", err)
		}
		refused++
		start, _ := l.Bounds()
		holds(t, l, start, next) // reads go on
		if refused == 1 {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := l.TrimTo(ctx, (start+next)/2); err != nil {
			t.Fatal(err)
		}
		if refused > 300 {
			t.Fatalf("no room at offset %d", next)
		}
	}
	if refused < 2 {
		t.Fatalf("the disk was full %d times", refused)
	}
	start, _ := l.Bounds()
	holds(t, l, start, next)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openFS(t, quick{}, filepath.Join(dir, "logs"))
	l, rec := openLog(t, s, logID(), small(150_000))
	if !rec.Clean || rec.Truncated > 0 {
		t.Fatalf("recovered %+v", rec)
	}
	holds(t, l, start, next)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
