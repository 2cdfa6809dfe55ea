package vfstest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
)

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func openFile(t testing.TB, fs vfs.FS, name string, flag int) vfs.File {
	t.Helper()
	f, err := fs.OpenFile(name, flag, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func writeAt(t testing.TB, f vfs.File, p []byte, off int64) {
	t.Helper()
	if n, err := f.WriteAt(p, off); err != nil || n != len(p) {
		t.Fatalf("wrote %d of %d: %v", n, len(p), err)
	}
}

// history is what a file may hold after a power cut: for each byte the values that
// it had since the last sync, and the sizes.
type history struct {
	data  []byte
	sizes map[int]bool
	was   []values
}

type values [4]uint64

func (v *values) add(b byte)      { v[b/64] |= 1 << (b % 64) }
func (v *values) has(b byte) bool { return v[b/64]>>(b%64)&1 != 0 }

func (h *history) synced() {
	h.sizes = map[int]bool{len(h.data): true}
	clear(h.was)
}

func (h *history) note(from, to int) {
	for len(h.was) < to {
		h.was = append(h.was, values{})
	}
	for i := from; i < to; i++ {
		h.was[i].add(h.data[i])
	}
}

func (h *history) resize(n int) {
	// What is cut off may be zero before the size is less.
	cut := len(h.data)
	h.note(min(n, cut), cut)
	for i := n; i < cut; i++ {
		h.data[i] = 0
	}
	h.data = append(h.data, make([]byte, max(0, n-cut))...)
	h.note(min(n, cut), len(h.data))
	h.data = h.data[:n]
	h.sizes[n] = true
}

func (h *history) write(p []byte, off int) {
	if off+len(p) > len(h.data) {
		h.resize(off + len(p))
	}
	h.note(off, off+len(p))
	copy(h.data[off:], p)
	h.note(off, off+len(p))
}

// allows says what is wrong with a content after a power cut.
func (h *history) allows(got []byte) string {
	if !h.sizes[len(got)] {
		return fmt.Sprintf("size %d, which it never had: %v", len(got), h.sizes)
	}
	for i, b := range got {
		if i >= len(h.was) || h.was[i] == (values{}) {
			if b != h.data[i] {
				return fmt.Sprintf("byte %d is %d, but %d was synced", i, b, h.data[i])
			}
		} else if !h.was[i].has(b) {
			return fmt.Sprintf("byte %d is %d, which it never was", i, b)
		}
	}
	return ""
}

// TestPowerCutOfAFile compares a file after a power cut with what it may hold: what
// was synced exactly, and of the rest only what was there once.
func TestPowerCutOfAFile(t *testing.T) {
	t.Parallel()
	lost, kept, torn := 0, 0, 0
	for seed := range uint64(300) {
		rnd := source(seed)
		d := vfstest.NewDisk(vfstest.Options{Rand: source(seed + 1e6)})
		h := &history{}
		h.synced()
		f := openFile(t, d, "f", os.O_RDWR|os.O_CREATE)
		must(t, vfs.SyncDir(d, "/"))
		var m vfs.Mapping
		synced := true
		for range 1 + rnd.IntN(30) {
			synced = false
			switch n := rnd.IntN(10); {
			case n < 4:
				p := bytes.Repeat([]byte{byte(1 + rnd.IntN(255))}, 1+rnd.IntN(9000))
				off := rnd.IntN(len(h.data) + 1)
				writeAt(t, f, p, int64(off))
				h.write(p, off)
			case n < 5:
				size := rnd.IntN(30_000)
				must(t, f.Truncate(int64(size)))
				h.resize(size)
			case n < 6:
				size := len(h.data) + rnd.IntN(9000)
				must(t, f.Allocate(int64(len(h.data)), int64(size-len(h.data))))
				h.resize(size)
			case n < 8 && len(h.data) > 10:
				if m == nil {
					var err error
					if m, err = f.Map(0, 1<<16, true); err != nil {
						t.Fatal(err)
					}
				}
				p := bytes.Repeat([]byte{byte(1 + rnd.IntN(255))}, 1+rnd.IntN(min(2000, len(h.data)-1)))
				off := rnd.IntN(min(1<<16, len(h.data)) - len(p))
				must(t, m.Store(off, p))
				h.write(p, off)
			case n == 8:
				must(t, f.Sync())
				h.synced()
				synced = true
			}
			if got, err := vfs.ReadFile(d, "f"); err != nil || !bytes.Equal(got, h.data) {
				t.Fatalf("seed %d: readers see something else, %v", seed, err)
			}
			if m != nil && !bytes.Equal(m.Bytes()[:min(len(h.data), 1<<16)], h.data[:min(len(h.data), 1<<16)]) {
				t.Fatalf("seed %d: the mapping shows something else", seed)
			}
		}
		after := d.Crash(source(seed + 2e6))
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, vfstest.ErrPower) {
			t.Fatalf("after the crash a file of before answers %v", err)
		}
		got, err := vfs.ReadFile(after, "f")
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if why := h.allows(got); why != "" {
			t.Fatalf("seed %d: %s", seed, why)
		}
		switch {
		case bytes.Equal(got, h.data):
			kept++
		case synced:
			t.Fatalf("seed %d: synced, and not there", seed)
		case len(got) == len(h.data):
			torn++
		default:
			lost++
		}
		again, err := vfs.ReadFile(after.Crash(source(seed)), "f")
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("seed %d: a second power cut changed it, %v", seed, err)
		}
	}
	if lost < 20 || kept < 20 || torn < 20 {
		t.Fatalf("%d lost, %d kept, %d torn: the power cuts do not explore", lost, kept, torn)
	}
}

// names lists a directory with the first byte of each file.
func names(t testing.TB, fs vfs.FS, dir string) string {
	t.Helper()
	entries, err := fs.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, e := range entries {
		data, err := vfs.ReadFile(fs, dir+"/"+e.Name())
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf("%s:%s ", e.Name(), data)
	}
	return out
}

// TestPowerCutOfADirectory: what was synced is there, and of what came after only
// the first steps.
func TestPowerCutOfADirectory(t *testing.T) {
	t.Parallel()
	seen := map[int]int{}
	for seed := range uint64(300) {
		rnd := source(seed)
		d := vfstest.NewDisk(vfstest.Options{Rand: source(seed + 1e6)})
		must(t, d.MkdirAll("a/b", 0o755), vfs.SyncDir(d, "/"), vfs.SyncDir(d, "a"))
		states := []string{""}
		for i := range 1 + rnd.IntN(12) {
			name, other := fmt.Sprint("a/b/", rnd.IntN(3)), fmt.Sprint("a/b/", rnd.IntN(3))
			switch rnd.IntN(5) {
			case 0, 1:
				_ = d.Remove(name) // may not be there
				if n := names(t, d, "a/b"); n != states[len(states)-1] {
					states = append(states, n)
				}
				f := openFile(t, d, name, os.O_RDWR|os.O_CREATE)
				writeAt(t, f, []byte{byte('a' + i)}, 0)
				must(t, f.Sync(), f.Close())
			case 2:
				_ = d.Remove(name) // may not be there
			case 3:
				_ = d.Rename(name, other) // may not be there
			case 4:
				must(t, vfs.SyncDir(d, "a/b"))
				states = states[len(states)-1:]
			}
			if n := names(t, d, "a/b"); n != states[len(states)-1] {
				states = append(states, n)
			}
		}
		got := names(t, d.Crash(rnd), "a/b")
		i := slices.Index(states, got)
		if i < 0 {
			t.Fatalf("seed %d: %q, but it went through %q", seed, got, states)
		}
		seen[len(states)-1-i]++
	}
	if seen[0] < 30 || seen[1] < 30 || seen[2] < 15 {
		t.Fatalf("steps lost: %v; the power cuts do not explore", seen)
	}
}

// TestUnordered loses a step and keeps a later one on another name, but never on
// the same.
func TestUnordered(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(200) {
		d := vfstest.NewDisk(vfstest.Options{Unordered: true})
		for _, name := range []string{"a", "b"} {
			f := openFile(t, d, name, os.O_RDWR|os.O_CREATE)
			writeAt(t, f, []byte(name), 0)
			must(t, f.Sync(), f.Close())
		}
		must(t, d.Rename("a", "c"))
		seen[names(t, d.Crash(source(seed)), "")]++
	}
	for _, want := range []string{"", "a:a ", "b:b ", "a:a b:b ", "b:b c:c "} {
		if want == "b:b c:c " {
			want = "b:b c:a "
		}
		if seen[want] == 0 {
			t.Errorf("never %q: %v", want, seen)
		}
	}
}

func TestWriteFileIsAtomic(t *testing.T) {
	t.Parallel()
	for _, unordered := range []bool{false, true} {
		old, updated := 0, 0
		for seed := range uint64(400) {
			rnd := source(seed)
			d := vfstest.NewDisk(vfstest.Options{Rand: rnd, Unordered: unordered})
			must(t, vfs.WriteFile(d, "f", bytes.Repeat([]byte("old"), 3000)))
			at := int64(rnd.IntN(9))
			fs := vfstest.NewFaults(d, func(op vfstest.Op) vfstest.Fault {
				if op.Seq < at {
					return vfstest.Fault{}
				}
				return vfstest.Fault{Err: vfstest.ErrPower, After: op.Seq == at && rnd.IntN(2) == 0}
			})
			err := vfs.WriteFile(fs, "f", []byte("new"))
			got, rerr := vfs.ReadFile(d.Crash(rnd), "f")
			switch {
			case rerr != nil:
				t.Fatal(rerr)
			case string(got) == "new":
				updated++
			case len(got) == 9000 && err != nil:
				old++
			default:
				t.Fatalf("seed %d: %d bytes, %v", seed, len(got), err)
			}
		}
		if old < 50 || updated < 50 {
			t.Fatalf("%d times the old file, %d times the new one", old, updated)
		}
	}
}

func TestKillKeepsWhatWasWritten(t *testing.T) {
	t.Parallel()
	lost := 0
	for seed := range uint64(50) {
		d := vfstest.NewDisk(vfstest.Options{Rand: source(seed)})
		lock, err := d.Lock("lock")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Lock("lock"); !errors.Is(err, vfs.ErrLocked) {
			t.Fatalf("got %v", err)
		}
		f := openFile(t, d, "f", os.O_RDWR|os.O_CREATE)
		writeAt(t, f, []byte("hello"), 0)
		next := d.Kill()
		if err := errors.Join(lock.Close(), f.Close()); !errors.Is(err, vfstest.ErrPower) {
			t.Fatalf("got %v", err)
		}
		if lock, err = next.Lock("lock"); err != nil {
			t.Fatal(err)
		}
		if got, err := vfs.ReadFile(next, "f"); err != nil || string(got) != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
		must(t, lock.Close(), vfs.SyncDir(next, "/"))
		if files, mappings := next.Open(); files != 0 || mappings != 0 {
			t.Fatalf("%d files and %d mappings are open", files, mappings)
		}
		if got, err := vfs.ReadFile(next.Crash(source(seed)), "f"); err != nil || string(got) != "hello" {
			lost++
		}
	}
	if lost == 0 || lost == 50 {
		t.Fatalf("unsynced bytes were lost %d times in 50", lost)
	}
}

// TestFailedSyncDropsPages is what Linux does: the second sync succeeds, readers
// see the bytes, and the disk does not have them until they are written anew.
func TestFailedSyncDropsPages(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		d := vfstest.NewDisk(vfstest.Options{})
		fail := true
		fs := vfstest.NewFaults(d, func(op vfstest.Op) vfstest.Fault {
			if op.Kind == vfstest.Sync && fail {
				return vfstest.Fault{Err: syscall.EIO, Drop: true}
			}
			return vfstest.Fault{}
		})
		f := openFile(t, fs, "f", os.O_RDWR|os.O_CREATE)
		writeAt(t, f, []byte("hello"), 0)
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v", err)
		}
		fail = false
		want := "\x00\x00\x00\x00\x00"
		if again {
			want = "hello"
			writeAt(t, f, []byte("h"), 0) // the page is written as a whole
		}
		must(t, f.Sync(), vfs.SyncDir(fs, "/"))
		if got, err := vfs.ReadFile(fs, "f"); err != nil || string(got) != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
		if got, err := vfs.ReadFile(d.Crash(source(1)), "f"); err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	d := vfstest.NewDisk(vfstest.Options{Capacity: 10_000, MaxOpen: 2})
	f := openFile(t, d, "f", os.O_RDWR|os.O_CREATE)
	writeAt(t, f, make([]byte, 9000), 0)
	if n, err := f.WriteAt(make([]byte, 3000), 8000); n != 2000 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	for _, err := range []error{f.Allocate(0, 10_001), f.Truncate(10_001)} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
	}
	if u, err := d.DiskUsage("/"); err != nil || u.Total != 10_000 || u.Usable != 0 {
		t.Fatalf("got %+v, %v", u, err)
	}
	// A file that is open takes its space although it has no name.
	must(t, d.Remove("f"))
	g := openFile(t, d, "g", os.O_RDWR|os.O_CREATE)
	if _, err := g.WriteAt([]byte{1}, 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if _, err := d.OpenFile("h", os.O_RDWR|os.O_CREATE, 0); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("got %v", err)
	}
	must(t, f.Close())
	writeAt(t, g, make([]byte, 10_000), 0)
	m, err := g.Map(0, 20_000, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Store(9_999, []byte{1, 2}); !errors.Is(err, vfs.ErrFault) {
		t.Fatalf("got %v", err)
	}
	must(t, m.Close(), g.Close())
	if files, mappings := d.Open(); files != 0 || mappings != 0 {
		t.Fatalf("%d files and %d mappings are open", files, mappings)
	}
}

// TestMistakes: the errors are those of the operating system.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, fs := range map[string]vfs.FS{"disk": vfstest.NewDisk(vfstest.Options{}), "faults": vfstest.NewFaults(vfs.OS{}, nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := "d"
			if name == "faults" {
				dir = t.TempDir() + "/d"
			}
			must(t, fs.MkdirAll(dir+"/sub", 0o755), vfs.SyncDir(fs, dir))
			f := openFile(t, fs, dir+"/f", os.O_RDWR|os.O_CREATE)
			writeAt(t, f, []byte("hello"), 0)
			ro := openFile(t, fs, dir+"/f", os.O_RDONLY)
			check := func(what string, err, want error) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			_, err := fs.OpenFile(dir+"/none", os.O_RDONLY, 0)
			check("open", err, os.ErrNotExist)
			_, err = fs.OpenFile(dir+"/f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0)
			check("open", err, os.ErrExist)
			_, err = fs.OpenFile(dir+"/sub", os.O_RDWR, 0)
			check("open", err, syscall.EISDIR)
			check("remove", fs.Remove(dir+"/none"), os.ErrNotExist)
			check("rename", fs.Rename(dir+"/none", dir+"/g"), os.ErrNotExist)
			check("mkdir", fs.MkdirAll(dir+"/f/x", 0o755), syscall.ENOTDIR)
			_, err = fs.ReadDir(dir + "/none")
			check("list", err, os.ErrNotExist)
			_, err = fs.Stat(dir + "/none")
			check("stat", err, os.ErrNotExist)
			check("sync", vfs.SyncDir(fs, dir+"/none"), os.ErrNotExist)
			_, err = ro.WriteAt([]byte("x"), 0)
			check("write", err, syscall.EBADF)
			_, err = ro.ReadAt(make([]byte, 9), 0)
			check("read", err, io.EOF)
			must(t, f.Close(), ro.Close(), fs.Remove(dir+"/f"), fs.RemoveAll(dir), fs.RemoveAll(dir))
			check("close", f.Close(), os.ErrClosed)
		})
	}
}

// TestFaults lets each kind of call fail before and after its work.
func TestFaults(t *testing.T) {
	t.Parallel()
	want := errors.New("out of order")
	for _, after := range []bool{false, true} {
		for kind := vfstest.OpenFile; kind <= vfstest.Store; kind++ {
			d := vfstest.NewDisk(vfstest.Options{})
			must(t, vfs.WriteFile(d, "f", []byte("hello")), d.MkdirAll("d", 0o755))
			hit := 0
			fs := vfstest.NewFaults(d, func(op vfstest.Op) vfstest.Fault {
				if op.Kind == kind {
					hit++
					return vfstest.Fault{Err: want, After: after, Bytes: 2}
				}
				return vfstest.Fault{}
			})
			err := everything(fs)
			if !errors.Is(err, want) || hit == 0 {
				t.Fatalf("kind %d, after %v: %d calls, %v", kind, after, hit, err)
			}
			if files, mappings := d.Open(); files != 0 || mappings != 0 {
				t.Fatalf("kind %d, after %v: %d files and %d mappings are open", kind, after, files, mappings)
			}
		}
	}
}

// everything makes each kind of call, whatever becomes of the others.
func everything(fs vfs.FS) error {
	_, errStat := fs.Stat("f")
	_, errList := fs.ReadDir("d")
	_, errUsage := fs.DiskUsage("d")
	errs := []error{errStat, errList, errUsage, fs.MkdirAll("e", 0o755), vfs.SyncDir(fs, "d")}
	lock, err := fs.Lock("lock")
	if errs = append(errs, err); err == nil {
		errs = append(errs, lock.Close())
	}
	f, err := fs.OpenFile("f", os.O_RDWR, 0)
	if errs = append(errs, err); err == nil {
		_, errSize := f.Size()
		_, errRead := f.ReadAt(make([]byte, 3), 0)
		_, errWrite := f.WriteAt([]byte("abc"), 0)
		errs = append(errs, errSize, errRead, errWrite, f.Allocate(0, 10), f.Truncate(8), f.Sync())
		m, err := f.Map(0, 8, true)
		if errs = append(errs, err); err == nil {
			errs = append(errs, m.Store(1, []byte("xyz")), m.Close())
		}
		errs = append(errs, f.Close())
	}
	return errors.Join(append(errs, fs.Rename("f", "g"), fs.Remove("g"), fs.RemoveAll("d"))...)
}

func TestFaultOfAWriteIsShort(t *testing.T) {
	t.Parallel()
	d := vfstest.NewDisk(vfstest.Options{})
	fs := vfstest.NewFaults(d, func(op vfstest.Op) vfstest.Fault {
		switch op.Kind {
		case vfstest.WriteAt:
			return vfstest.Fault{Err: syscall.ENOSPC, Bytes: 3}
		case vfstest.Store:
			return vfstest.Fault{Err: syscall.EIO, Bytes: 1}
		}
		return vfstest.Fault{}
	})
	f := openFile(t, fs, "f", os.O_RDWR|os.O_CREATE)
	if n, err := f.WriteAt([]byte("hello"), 0); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	m, err := f.Map(0, 3, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Store(1, []byte("xy")); !errors.Is(err, vfs.ErrFault) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if got, err := vfs.ReadFile(d, "f"); err != nil || string(got) != "hxl" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestWriteFileWithoutDescriptors: where they are wanting the file is as it was, on the
// medium, too, and the error says so; where another call fails it does not, whatever it
// fails with.
func TestWriteFileWithoutDescriptors(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENOMEM} {
		untried := 0
		for stop := int64(0); ; stop++ {
			d := vfstest.NewDisk(vfstest.Options{})
			must(t, vfs.WriteFile(d, "f", []byte("old")))
			var at vfstest.Kind
			fs := vfstest.NewFaults(d, func(op vfstest.Op) vfstest.Fault {
				if op.Seq == stop {
					at = op.Kind
					return vfstest.Fault{Err: errno}
				}
				return vfstest.Fault{}
			})
			err := vfs.WriteFile(fs, "f", []byte("new"))
			if err == nil {
				break
			}
			var e *vfs.NotTriedError
			marked := errors.As(err, &e)
			open := at == vfstest.OpenDir || at == vfstest.OpenFile && errno == syscall.EMFILE
			if marked != open {
				t.Errorf("%v of call %d, kind %d: %v, marked %v", errno, stop, at, err, marked)
			}
			if !marked {
				continue
			}
			untried++
			seen, err := vfs.ReadFile(d, "f")
			kept, crashed := vfs.ReadFile(d.Crash(source(1)), "f")
			if err := errors.Join(err, crashed); err != nil || string(seen) != "old" || string(kept) != "old" {
				t.Errorf("call %d: the file has %q, and %q after a power cut; %v", stop, seen, kept, err)
			}
		}
		if untried == 0 {
			t.Errorf("%v: no call was untried", errno)
		}
	}
}
