package vfs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/vfs"
)

func create(t *testing.T, name string) vfs.File {
	t.Helper()
	f, err := vfs.OS{}.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // closed by the test where it matters
	return f
}

func TestMappingStores(t *testing.T) {
	t.Parallel()
	f := create(t, filepath.Join(t.TempDir(), "f"))
	if err := f.Allocate(0, 100); errors.Is(err, errors.ErrUnsupported) {
		err = f.Truncate(100)
		if err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	m, err := f.Map(0, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Store(10, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := f.ReadAt(got, 10); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if !bytes.Equal(m.Bytes()[10:15], got) {
		t.Fatal("the mapping has other bytes")
	}
	// Beyond the file a store is an error and not the end of the process.
	if err := m.Store(64<<10, []byte("x")); !errors.Is(err, vfs.ErrFault) {
		t.Fatalf("got %v", err)
	}
	if err := m.Store(1<<20, []byte("x")); !errors.Is(err, vfs.ErrFault) {
		t.Fatalf("got %v", err)
	}
	if err := touch(m.Bytes()[64<<10:]); !errors.Is(err, vfs.ErrFault) {
		t.Fatalf("got %v", err)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
}

func touch(b []byte) (err error) {
	defer vfs.CatchFault(&err, debug.SetPanicOnFault(true))
	if b[0] != 0 {
		return errors.New("not zero")
	}
	return nil
}

func TestCatchFaultLetsOtherPanicsPass(t *testing.T) {
	t.Parallel()
	defer func() {
		if r := recover(); r == nil {
			t.Error("the panic was swallowed")
		}
	}()
	_ = touch(nil) // index out of range
}

func TestLock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), ".lock")
	l, err := vfs.OS{}.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (vfs.OS{}).Lock(name); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = vfs.OS{}.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLockHeld(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := vfs.OS{}.Lock(filepath.Join(dir, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // only looked at
	if err := l.Held(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Rename(dir, dir+"-away"), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := l.Held(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in an empty directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Held(); err == nil {
		t.Error("another file is taken for the lock")
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, want := range []string{"one", "", "three"} {
		if err := vfs.WriteFile(vfs.OS{}, name, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := vfs.ReadFile(vfs.OS{}, name)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	es, err := vfs.OS{}.ReadDir(dir)
	if err != nil || len(es) != 1 {
		t.Fatalf("left %v, %v", es, err)
	}
	u, err := vfs.OS{}.DiskUsage(dir)
	if err != nil || u.Total <= 0 || u.Usable > u.Total {
		t.Fatalf("got %+v, %v", u, err)
	}
}

func TestSetModified(t *testing.T) {
	t.Parallel()
	name, old := filepath.Join(t.TempDir(), "f"), time.UnixMilli(1_400_000_000_123)
	f := create(t, name)
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{old, {}} { // zero leaves it
		if err := f.SetModified(at); err != nil {
			t.Fatal(err)
		}
		if st, err := (vfs.OS{}).Stat(name); err != nil || !st.ModTime().Equal(old) {
			t.Errorf("after %v: %v, %v", at, st.ModTime(), err)
		}
	}
}

// TestNotTried: an error says that nothing was done only where that is certain.
func TestNotTried(t *testing.T) {
	t.Parallel()
	marked := func(err error) bool {
		var e *vfs.NotTriedError
		return errors.As(err, &e)
	}
	for _, c := range []struct {
		err  error
		flag int
		want bool
	}{
		{syscall.EMFILE, os.O_RDONLY, true},
		{syscall.ENFILE, os.O_RDWR | os.O_CREATE | os.O_TRUNC, true},
		{syscall.ENOMEM, os.O_RDWR, true},
		{syscall.ENOMEM, os.O_RDWR | os.O_CREATE, false}, // it may have been made
		{syscall.ENOMEM, os.O_RDWR | os.O_TRUNC, false},  // it may have been cut
		{syscall.EIO, os.O_RDONLY, false},
		{nil, os.O_RDONLY, false},
	} {
		if got := vfs.OpenError(c.err, c.flag); marked(got) != c.want || !errors.Is(got, c.err) {
			t.Errorf("%v with flags %#x: %v, marked %v", c.err, c.flag, got, marked(got))
		}
	}
}
