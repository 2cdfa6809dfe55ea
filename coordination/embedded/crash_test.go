package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
)

func mustOpen(t testing.TB, o Options) (*Coordinator, *Session) {
	t.Helper()
	c, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, s.(*Session)
}

func mustCommit(t testing.TB, s *Session, ops ...core.Op) {
	t.Helper()
	if _, err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

// dump describes all that must outlive a restart.
func dump(c *Coordinator) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return dumpTree(c.tree)
}

func dumpTree(t *tree) string {
	var lines []string
	for p, n := range t.nodes {
		if n.owner == 0 {
			lines = append(lines, fmt.Sprintf("%s %x v%d c%d m%d n%d", p, n.data, n.version, n.czxid, n.mzxid, n.creates))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// copyDir is what a crash at this moment leaves.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, d.Name()), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// state opens a directory, and closes it again.
func state(t testing.TB, dir string) (string, error) {
	t.Helper()
	c, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		return "", err
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	return dump(c), nil
}

// history makes a tree of a few commits and answers the log's bytes, the ends of
// its frames and the state after each.
func history(t *testing.T, dir string) (log []byte, ends []int, states []string) {
	t.Helper()
	c, s := mustOpen(t, Options{Dir: dir})
	note := func() {
		ends = append(ends, int(c.store.log.end))
		states = append(states, dump(c))
	}
	note()
	commits := [][]core.Op{
		{core.Create("/a", []byte("one")), core.Create("/a/b", nil)},
		{core.CreateEphemeral("/e", []byte("gone after a restart"))},
		{core.Set("/a", []byte(strings.Repeat("long ", 20)), 0), core.CreateSequential("/a/n-", nil)},
		{core.Delete("/e", 0), core.CreateEphemeral("/e", nil)},
		{core.Delete("/a/b", 0), core.CreateSequential("/a/n-", []byte("last"))},
	}
	for _, ops := range commits {
		mustCommit(t, s, ops...)
		note()
	}
	b, err := os.ReadFile(filepath.Join(dir, "coordination-log-0"))
	if err != nil {
		t.Fatal(err)
	}
	return b, ends, states
}

func writeLog(t testing.TB, b []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "coordination-log-0"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	log, ends, states := history(t, t.TempDir())
	empty := dumpTree(newTree())
	for cut := 0; cut <= len(log); cut++ {
		// What lies behind the cut may be missing, or may be room that was never written.
		for _, tail := range []int{0, 1, 40} {
			file := append(slices.Clone(log[:cut]), make([]byte, tail)...)
			want := empty
			for i, end := range ends {
				if bytes.HasPrefix(file, log[:end]) { // the zeros may be the right bytes
					want = states[i]
				}
			}
			dir := writeLog(t, file)
			got, err := state(t, dir)
			if cut > 0 && len(file) >= headerSize && !bytes.HasPrefix(file, log[:headerSize]) {
				if !errors.Is(err, core.ErrCorrupt) {
					t.Fatalf("half a header and zeros: got %v, want %v", err, core.ErrCorrupt)
				}
				continue
			}
			if err != nil {
				t.Fatalf("cut at %d, %d zeros: %v", cut, tail, err)
			}
			if got != want {
				t.Fatalf("cut at %d, %d zeros: state\n%s\nwant\n%s", cut, tail, got, want)
			}
			if again, err := state(t, dir); err != nil || again != want {
				t.Fatalf("cut at %d, %d zeros, opened again: %v, state\n%s\nwant\n%s", cut, tail, err, again, want)
			}
		}
	}
}

func TestDamageAtEveryByte(t *testing.T) {
	t.Parallel()
	log, ends, states := history(t, t.TempDir())
	for i := range log {
		bad := slices.Clone(log)
		bad[i] ^= 1 << (i % 8)
		dir := writeLog(t, bad)
		got, err := state(t, dir)
		if i >= ends[len(ends)-2] { // the last frame: a torn write, for all that can be known
			if err != nil || got != states[len(states)-2] {
				t.Fatalf("damage at %d of the last frame: %v", i, err)
			}
			continue
		}
		frame := 0
		for _, end := range ends {
			if i >= headerSize && end <= i {
				frame = end
			}
		}
		if i >= headerSize && frame == 0 {
			frame = headerSize
		}
		name := filepath.Join(dir, "coordination-log-0")
		if !errors.Is(err, core.ErrCorrupt) || !strings.Contains(err.Error(), name+" at offset "+strconv.Itoa(frame)) {
			t.Fatalf("damage at %d: got %v, want %v at offset %d", i, err, core.ErrCorrupt, frame)
		}
		if after, err := os.ReadFile(name); err != nil || !slices.Equal(after, bad) {
			t.Fatalf("a refused log was changed: %v", err)
		}
	}
}

func TestSnapshotDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, s := mustOpen(t, Options{Dir: dir, LogLimit: 1})
	mustCommit(t, s, core.Create("/a", []byte("x")))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "coordination-snapshot-*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("snapshots %v, %v", names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(names[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := state(t, dir); !errors.Is(err, core.ErrCorrupt) || !strings.Contains(err.Error(), names[0]) {
			t.Fatalf("damage at %d: got %v, want %v with the file's name", i, err, core.ErrCorrupt)
		}
	}
	// A snapshot without its log, and a log without its snapshot.
	if err := os.WriteFile(names[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"coordination-log-*", "coordination-snapshot-*"} {
		part := copyDir(t, dir)
		gone, _ := filepath.Glob(filepath.Join(part, prefix))
		for _, name := range gone {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := state(t, part); !errors.Is(err, core.ErrCorrupt) || !strings.Contains(err.Error(), "missing") {
			t.Errorf("without %s: got %v, want %v", prefix, err, core.ErrCorrupt)
		}
	}
}

// TestCrashAtEveryStep copies the directory at each step of commits and changes
// of generation, and wants the state before or after the commit in flight.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	type crash struct{ step, dir string }
	var crashes []crash
	dir := t.TempDir()
	c, s := mustOpen(t, Options{Dir: dir, LogLimit: 1, step: func(step string) {
		crashes = append(crashes, crash{step, copyDir(t, dir)})
	}})
	before := dump(c)
	seen := map[string]int{}
	for i := range 6 {
		mustCommit(t, s, core.CreateSequential("/n-", []byte{byte(i)}))
		mustCommit(t, s, core.Set("/", []byte{byte(i)}, core.AnyVersion), core.CreateEphemeral("/e-"+strconv.Itoa(i), nil))
	}
	// The committer changes generation after it has answered, and an end of a session
	// comes after that.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	last := before
	states := map[string]bool{last: true}
	for _, cr := range crashes {
		seen[cr.step]++
		got, err := state(t, cr.dir)
		if err != nil {
			t.Fatalf("crash at %q: %v", cr.step, err)
		}
		if got != last && states[got] {
			t.Fatalf("crash at %q lost a commit", cr.step)
		}
		if cr.step == "append" && got != last {
			t.Fatalf("at the beginning of a write the state is not the one after the last")
		}
		last = got
		states[got] = true
	}
	for _, step := range []string{"append", "appended", "prepare", "log", "rename", "renamed", "removed"} {
		if seen[step] < 3 {
			t.Errorf("step %q was seen %d times", step, seen[step])
		}
	}
	if got, err := state(t, dir); err != nil || got != last {
		t.Errorf("the end: %v", err)
	}
}

// TestCopyWhileWriting copies the log while commits run: what was acknowledged
// before the copy began is in it, and each commit is there as a whole.
func TestCopyWhileWriting(t *testing.T) {
	t.Parallel()
	const writers = 4
	dir := t.TempDir()
	_, s := mustOpen(t, Options{Dir: dir, LogLimit: 1 << 40})
	var acked, begun [writers]atomic.Int64
	for i := range writers {
		mustCommit(t, s, core.Create(fmt.Sprintf("/a%d", i), []byte("0")), core.Create(fmt.Sprintf("/b%d", i), []byte("0")))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for v := int64(1); ; v++ {
				select {
				case <-stop:
					return
				default:
				}
				data := []byte(strconv.FormatInt(v, 10))
				begun[i].Store(v)
				if _, err := s.Commit(t.Context(), core.Set(fmt.Sprintf("/a%d", i), data, int32(v-1)), core.Set(fmt.Sprintf("/b%d", i), data, core.AnyVersion)); err != nil {
					t.Error(err)
					return
				}
				acked[i].Store(v)
			}
		})
	}
	for range 20 {
		var low [writers]int64
		for i := range writers {
			low[i] = acked[i].Load()
		}
		crashed := copyDir(t, dir)
		c, err := Open(t.Context(), Options{Dir: crashed})
		if err != nil {
			t.Errorf("open the copy: %v", err)
			break
		}
		for i := range writers {
			a, b := string(c.tree.nodes[fmt.Sprintf("/a%d", i)].data), string(c.tree.nodes[fmt.Sprintf("/b%d", i)].data)
			v, _ := strconv.ParseInt(a, 10, 64)
			if a != b || v < low[i] || v > begun[i].Load() {
				t.Errorf("values %s and %s; %d was acknowledged before the copy", a, b, low[i])
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// faulty is a log file whose next calls fail.
type faulty struct {
	logFile
	write, sync, truncate error
	part                  int // bytes of the failing write that reach the file
}

func (f *faulty) WriteAt(b []byte, off int64) (int, error) {
	if err := f.write; err != nil {
		f.write = nil
		n, _ := f.logFile.WriteAt(b[:min(f.part, len(b))], off)
		return n, err
	}
	return f.logFile.WriteAt(b, off)
}

func (f *faulty) Sync() error {
	if err := f.sync; err != nil {
		f.sync = nil
		return err
	}
	return f.logFile.Sync()
}

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.logFile.Truncate(size)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, s := mustOpen(t, Options{Dir: dir})
	mustCommit(t, s, core.Create("/a", nil))
	f := &faulty{logFile: c.store.log.f, write: syscall.ENOSPC, part: 7}
	c.store.log.f = f // the committer sleeps until the next request
	_, err := s.Commit(t.Context(), core.Create("/b", nil))
	if !errors.Is(err, core.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want %v", err, core.ErrNoSpace)
	}
	if _, err := s.Get(t.Context(), "/b"); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("what was refused is there: %v", err)
	}
	mustCommit(t, s, core.Create("/b", []byte("later")), core.CreateEphemeral("/e", nil))
	// The end of a session is made up for.
	second, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.write = syscall.ENOSPC
	if err := s.Close(); !errors.Is(err, core.ErrNoSpace) {
		t.Errorf("close: got %v, want %v", err, core.ErrNoSpace)
	}
	mustCommit(t, second.(*Session), core.Create("/c", nil))
	if _, err := second.Get(t.Context(), "/e"); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("the ephemeral node is still there: %v", err)
	}
	want := dump(c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := state(t, dir); err != nil || got != want {
		t.Errorf("after a restart: %v\n%s\nwant\n%s", err, got, want)
	}
}

func TestDiskBroken(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*faulty{
		"sync":     {sync: syscall.EIO},
		"truncate": {write: syscall.EIO, truncate: syscall.EIO, part: 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c, s := mustOpen(t, Options{Dir: dir})
			mustCommit(t, s, core.Create("/a", nil))
			before := dump(c)
			f.logFile = c.store.log.f
			c.store.log.f = f
			ch, err := s.Watch(t.Context(), "/b")
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Commit(t.Context(), core.Create("/b", nil))
			if !errors.Is(err, core.ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("got %v, want %v", err, core.ErrOutcomeUnknown)
			}
			if _, open := <-ch; open {
				t.Error("the watch goes on")
			}
			if st := <-s.State(); st != core.SessionLost {
				t.Errorf("state %d", st)
			}
			if _, err := s.Commit(t.Context(), core.Create("/c", nil)); !errors.Is(err, core.ErrSessionLost) {
				t.Errorf("got %v, want %v", err, core.ErrSessionLost)
			}
			if _, err := c.Open(t.Context()); !errors.Is(err, core.ErrStorage) {
				t.Errorf("got %v, want %v", err, core.ErrStorage)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			got, err := state(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			if got != before && !strings.Contains(got, "/b") {
				t.Errorf("after a restart the state is\n%s", got)
			}
		})
	}
}

// TestOldFrames puts whole frames of the same log at other places: neither is
// taken for a frame there.
func TestOldFrames(t *testing.T) {
	t.Parallel()
	log, ends, states := history(t, t.TempDir())
	last := ends[len(ends)-2]
	torn := append(slices.Clone(log[:last]), log[ends[0]:ends[1]]...)
	if got, err := state(t, writeLog(t, torn)); err != nil || got != states[len(states)-2] {
		t.Errorf("a frame copied to the end: %v", err)
	}
	// Data that hold a frame's bytes, in a torn write, are no sign of damage.
	huge := append(slices.Clone(log[:last]), make([]byte, frameSize)...)
	binary.BigEndian.PutUint32(huge[last:], binary.BigEndian.Uint32(log[last:]))
	binary.BigEndian.PutUint32(huge[last+4:], 1<<30)
	huge = append(huge, log[headerSize:ends[2]]...)
	if got, err := state(t, writeLog(t, huge)); err != nil || got != states[len(states)-2] {
		t.Errorf("frames inside a torn one: %v", err)
	}
}

// TestManyGenerations grows and restarts a tree whose log is replaced often.
func TestManyGenerations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	want := ""
	for range 5 {
		c, s := mustOpen(t, Options{Dir: dir, LogLimit: 2000})
		if want != "" && dump(c) != want {
			t.Fatal("the state is not what it was")
		}
		for range 100 {
			mustCommit(t, s, core.CreateSequential("/n-", make([]byte, rnd.IntN(100))))
		}
		want = dump(c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := os.ReadDir(dir)
		if err != nil || len(names) != 3 {
			t.Errorf("the directory has %v, want a lock, a log and a snapshot", names)
		}
	}
}

// TestLogOfLostSnapshot: the next log is in use, so its snapshot was there.
func TestLogOfLostSnapshot(t *testing.T) {
	t.Parallel()
	log, ends, states := history(t, t.TempDir())
	dir := writeLog(t, log)
	next := filepath.Join(dir, "coordination-log-1")
	if err := os.WriteFile(next, log[:ends[0]], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state(t, dir); !errors.Is(err, core.ErrCorrupt) || !strings.Contains(err.Error(), "snapshot-1 is missing") {
		t.Errorf("got %v, want %v", err, core.ErrCorrupt)
	}
	if err := os.Truncate(next, headerSize); err != nil { // made, never used
		t.Fatal(err)
	}
	if got, err := state(t, dir); err != nil || got != states[len(states)-1] {
		t.Errorf("with an unused next log: %v", err)
	}
	if _, err := os.Stat(next); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unused log is still there: %v", err)
	}
}
