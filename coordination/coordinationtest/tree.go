package coordinationtest

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
)

func checkValues(s *suite) {
	cs := s.open()
	s.wantNone(cs, "/a")
	res := s.commit(cs, core.Create("/a", []byte("one")))
	if res[0].Path != "/a" {
		s.Errorf("created path %q, want /a", res[0].Path)
	}
	s.wantData(cs, "/a", "one")
	s.commit(cs, core.Set("/a", []byte("two"), 0))
	s.wantData(cs, "/a", "two")
	s.commit(cs, core.Set("/a", nil, core.AnyVersion))
	s.wantData(cs, "/a", "")
	s.commit(cs, core.Create("/a/ü-日本 x", []byte{0, 255}))
	s.wantData(cs, "/a/ü-日本 x", "\x00\xff")
	s.commit(cs, core.Delete("/a/ü-日本 x", 0))
	s.commit(cs, core.Delete("/a", core.AnyVersion))
	s.wantNone(cs, "/a")

	other := s.open()
	s.commit(cs, core.Create("/b", []byte("seen")))
	s.sync(other, "/b")
	s.wantData(other, "/b", "seen")
}

func checkStats(s *suite) {
	cs := s.open()
	created := s.commit(cs, core.Create("/a", nil))[0].Stat
	if created.Czxid <= 0 || created.Mzxid != created.Czxid {
		s.Errorf("a new node has czxid %d and mzxid %d", created.Czxid, created.Mzxid)
	}
	if want := (core.Stat{Czxid: created.Czxid, Mzxid: created.Mzxid}); created != want {
		s.Errorf("a new node has %+v, want %+v", created, want)
	}
	set := s.commit(cs, core.Set("/a", []byte("x"), 0))[0].Stat
	if set.Version != 1 || set.Czxid != created.Czxid || set.Mzxid <= created.Mzxid {
		s.Errorf("after a set the stat is %+v, before it was %+v", set, created)
	}
	s.commit(cs, core.Create("/a/1", nil), core.Create("/a/2", nil))
	s.commit(cs, core.Delete("/a/1", core.AnyVersion))
	got := s.get(cs, "/a").Stat
	if got.NumChildren != 1 || got.Cversion != 3 {
		s.Errorf("after two creates and a delete below it: NumChildren %d, Cversion %d; want 1 and 3", got.NumChildren, got.Cversion)
	}
	if got.Version != 1 || got.Mzxid != set.Mzxid {
		s.Errorf("children changed the data's stat: %+v, was %+v", got, set)
	}
	if stat := s.wantChildren(cs, "/a", "2"); stat != got {
		s.Errorf("Children has stat %+v, Get %+v", stat, got)
	}
	s.commit(cs, core.Delete("/a/2", 0))
	s.commit(cs, core.Delete("/a", 1))
	again := s.commit(cs, core.Create("/a", nil))[0].Stat
	if again.Czxid <= set.Mzxid || again.Version != 0 || again.Cversion != 0 {
		s.Errorf("a node created again has %+v, the old one had %+v", again, got)
	}
	multi := s.commit(cs, core.Create("/m", nil), core.Set("/m", nil, 0), core.Set("/a", nil, 0))
	if multi[0].Stat.Czxid != multi[1].Stat.Mzxid || multi[1].Stat.Mzxid != multi[2].Stat.Mzxid {
		s.Errorf("one commit has several ids: %+v", multi)
	}
}

func checkErrors(s *suite) {
	cs := s.open()
	s.commit(cs,
		core.Create("/a", nil), core.Create("/a/b", nil),
		core.Create("/v", nil), core.Set("/v", nil, 0),
		core.CreateEphemeral("/e", nil))
	sequentialBelow := func(path string) core.Op { return core.CreateSequential(path, nil) }
	for _, c := range []struct {
		name string
		op   core.Op
		want error
	}{
		{"create what is there", core.Create("/a", nil), core.ErrNodeExists},
		{"create the root", core.Create("/", nil), core.ErrNodeExists},
		{"create without parent", core.Create("/x/y", nil), core.ErrNotFound},
		{"create sequential without parent", sequentialBelow("/x/y-"), core.ErrNotFound},
		{"create below ephemeral", core.Create("/e/x", nil), core.ErrEphemeralParent},
		{"create sequential below ephemeral", sequentialBelow("/e/x-"), core.ErrEphemeralParent},
		{"create ephemeral below ephemeral", core.CreateEphemeral("/e/x", nil), core.ErrEphemeralParent},
		{"set what is not there", core.Set("/x", nil, core.AnyVersion), core.ErrNotFound},
		{"set an older version", core.Set("/v", nil, 0), core.ErrBadVersion},
		{"set a newer version", core.Set("/v", nil, 7), core.ErrBadVersion},
		{"delete what is not there", core.Delete("/x", core.AnyVersion), core.ErrNotFound},
		{"delete another version", core.Delete("/v", 0), core.ErrBadVersion},
		{"delete with children", core.Delete("/a", core.AnyVersion), core.ErrNotEmpty},
		{"check what is not there", core.Check("/x", core.AnyVersion), core.ErrNotFound},
		{"check another version", core.Check("/v", 0), core.ErrBadVersion},
	} {
		s.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, o: s.o, ctx: s.ctx, c: s.c}
			s.refused(cs, c.want, 0, c.op)
			s.refused(cs, c.want, 2, core.Check("/v", 1), core.Set("/a", []byte("no"), 0), c.op)
		})
	}
	if stat := s.wantData(cs, "/a", ""); stat.Version != 0 {
		s.Errorf("refused commits changed /a: %+v", stat)
	}
	if _, _, err := cs.Children(s.ctx, "/x"); !errors.Is(err, core.ErrNotFound) {
		s.Errorf("Children of nothing: got %v, want %v", err, core.ErrNotFound)
	}
	s.commit(cs, core.Check("/v", 1), core.Check("/a", core.AnyVersion))
}

func checkAllOrNothing(s *suite) {
	cs := s.open()
	s.commit(cs, core.Create("/a", []byte("old")), core.Create("/d", nil), core.Create("/seq", nil))
	before := s.get(cs, "/a").Stat
	s.refused(cs, core.ErrBadVersion, 6,
		core.Create("/new", nil), core.Create("/new/child", nil), core.Set("/a", []byte("new"), 0),
		core.Delete("/d", 0), core.CreateEphemeral("/e", nil), core.CreateSequential("/seq/n-", nil),
		core.Check("/a", 0)) // it was set above
	for _, p := range []string{"/new", "/new/child", "/e"} {
		s.wantNone(cs, p)
	}
	if after := s.wantData(cs, "/a", "old"); after != before {
		s.Errorf("a refused commit changed the stat from %+v to %+v", before, after)
	}
	s.get(cs, "/d")
	if stat := s.wantChildren(cs, "/seq"); stat.Cversion != 0 {
		s.Errorf("a refused commit changed Cversion to %d", stat.Cversion)
	}
	// What was refused leaves nothing behind for later commits.
	s.commit(cs, core.Create("/new", nil), core.Set("/a", []byte("new"), 0), core.Check("/a", 1))
	s.wantData(cs, "/a", "new")
}

func checkInOrder(s *suite) {
	cs := s.open()
	res := s.commit(cs,
		core.Create("/a", []byte("1")), core.Create("/a/b", nil), core.Set("/a", []byte("2"), 0),
		core.Delete("/a/b", 0), core.Check("/a", 1), core.Delete("/a", 1), core.Create("/a", []byte("3")))
	if res[2].Stat.Version != 1 || res[6].Stat.Version != 0 {
		s.Errorf("versions within a commit: %d after the set, %d after the last create; want 1 and 0", res[2].Stat.Version, res[6].Stat.Version)
	}
	s.wantData(cs, "/a", "3")
	s.wantChildren(cs, "/a")
	s.refused(cs, core.ErrNotFound, 1, core.Delete("/a", 0), core.Create("/a/b", nil))
	s.refused(cs, core.ErrNodeExists, 1, core.Create("/c", nil), core.Create("/c", nil))
	s.refused(cs, core.ErrNotEmpty, 1, core.Create("/a/b", nil), core.Delete("/a", 0))
	s.refused(cs, core.ErrEphemeralParent, 1, core.CreateEphemeral("/e", nil), core.Create("/e/x", nil))
}

func checkChildren(s *suite) {
	cs := s.open()
	s.commit(cs, core.Create("/p", nil), core.Create("/p/b", nil), core.Create("/p/a", nil),
		core.Create("/p/a/deep", nil), core.Create("/p-not", nil), core.Create("/p/10", nil), core.Create("/p/9", nil))
	s.wantChildren(cs, "/p", "10", "9", "a", "b")
	s.wantChildren(cs, "/p/b")
	s.commit(cs, core.Delete("/p/9", 0), core.Create("/p/c", nil))
	s.wantChildren(cs, "/p", "10", "a", "b", "c")
	names, _, err := cs.Children(s.ctx, "/")
	if err != nil {
		s.Fatalf("Children of the root: %v", err)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "p p-not") {
		s.Errorf("the root has children %v", names)
	}
}

// sequence is the number at the end of a sequential node's path.
func (s *suite) sequence(path, prefix string) int {
	s.Helper()
	digits, ok := strings.CutPrefix(path, prefix)
	n, err := strconv.Atoi(digits)
	if !ok || len(digits) != 10 || err != nil {
		s.Fatalf("sequential path %q: want %s and ten digits", path, prefix)
	}
	return n
}

func checkSequential(s *suite) {
	cs := s.open()
	s.commit(cs, core.Create("/q", nil), core.Create("/q2", nil))
	last := -1
	next := func(op core.Op) {
		s.Helper()
		res := s.commit(cs, op)[0]
		n := s.sequence(res.Path, op.Path)
		if n <= last {
			s.Errorf("%s follows number %d", res.Path, last)
		}
		last = n
		s.wantData(cs, res.Path, "x")
	}
	next(core.CreateSequential("/q/n-", []byte("x")))
	next(core.CreateSequential("/q/other-", []byte("x"))) // one counter for all prefixes
	next(core.CreateSequential("/q/", []byte("x")))       // a number alone is a name
	next(core.Op{Kind: core.OpCreate, Path: "/q/e-", Data: []byte("x"), Ephemeral: true, Sequential: true})
	names, _, err := cs.Children(s.ctx, "/q")
	if err != nil {
		s.Fatalf("Children: %v", err)
	}
	for _, n := range names {
		s.commit(cs, core.Delete("/q/"+n, core.AnyVersion))
	}
	next(core.CreateSequential("/q/n-", []byte("x"))) // numbers do not come back
	res := s.commit(cs, core.CreateSequential("/q/m-", nil), core.CreateSequential("/q/m-", nil), core.CreateSequential("/q2/m-", nil))
	if a, b := s.sequence(res[0].Path, "/q/m-"), s.sequence(res[1].Path, "/q/m-"); a <= last || b <= a {
		s.Errorf("two in one commit have the numbers %d and %d after %d", a, b, last)
	}
	if n := s.sequence(res[2].Path, "/q2/m-"); n != 0 {
		s.Errorf("another parent begins with %d", n)
	}
}

func checkEphemeral(s *suite) {
	lasting, brief := s.open(), s.open()
	if lasting.ID() == brief.ID() || brief.ID() == 0 {
		s.Fatalf("session ids %d and %d", lasting.ID(), brief.ID())
	}
	s.commit(lasting, core.Create("/ids", nil), core.CreateEphemeral("/mine", nil))
	res := s.commit(brief, core.CreateEphemeral("/ids/1", []byte("x")), core.CreateEphemeral("/ids/2", nil), core.Create("/stays", nil))
	if got := res[0].Stat.EphemeralOwner; got != brief.ID() {
		s.Errorf("the result's owner is %d, want %d", got, brief.ID())
	}
	s.sync(lasting, "/ids")
	if got := s.wantData(lasting, "/ids/1", "x").EphemeralOwner; got != brief.ID() {
		s.Errorf("owner %d, want %d", got, brief.ID())
	}
	if got := s.get(lasting, "/stays").Stat.EphemeralOwner; got != 0 {
		s.Errorf("a lasting node has owner %d", got)
	}
	// Another session may change and delete it; it stays ephemeral.
	s.commit(lasting, core.Set("/ids/1", []byte("y"), 0), core.Delete("/ids/2", 0))
	ch := s.watch(s.ctx, lasting, "/ids")
	if err := brief.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	s.sync(lasting, "/ids")
	s.until(ch, "/ids", "close of the owner", func() bool {
		_, err := lasting.Get(s.ctx, "/ids/1")
		return errors.Is(err, core.ErrNotFound)
	})
	if stat := s.wantChildren(lasting, "/ids"); stat.Cversion != 4 {
		s.Errorf("Cversion is %d after two creates and two deletes", stat.Cversion)
	}
	s.get(lasting, "/stays")
	s.get(lasting, "/mine")
	s.commit(lasting, core.Create("/ids/1", nil))
}

func checkOwnership(s *suite) {
	cs := s.open()
	data := []byte("given")
	ops := []core.Op{core.Create("/a", data)}
	s.commit(cs, ops...)
	copy(data, "wrong")
	ops[0].Path = "/b"
	n := s.get(cs, "/a")
	copy(n.Data, "wrong")
	s.wantData(cs, "/a", "given")
	s.commit(cs, core.Create("/a/x", nil), core.Create("/a/y", nil))
	names, _, err := cs.Children(s.ctx, "/a")
	if err != nil || len(names) != 2 {
		s.Fatalf("Children: %v, %v", names, err)
	}
	names[0] = "wrong"
	s.wantChildren(cs, "/a", "x", "y")
}

func checkBadArguments(s *suite) {
	cs := s.open()
	for _, path := range []string{"", "a", "a/b", "/a/", "//", "//a", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/nul\x00", "/ctl\x1f", "/\ufff0"} {
		if _, err := cs.Get(s.ctx, path); err == nil || errors.Is(err, core.ErrNotFound) {
			s.Errorf("Get %q: got %v, want a refusal of the path", path, err)
		}
		if _, err := cs.Watch(s.ctx, path); err == nil {
			s.Errorf("Watch %q: not refused", path)
		}
		if _, err := cs.Commit(s.ctx, core.Create("/ok", nil), core.Create(path, nil)); err == nil {
			s.Errorf("create %q: not refused", path)
		}
	}
	if _, err := cs.Commit(s.ctx, core.Create("/ok", nil), core.Op{Path: "/zero-kind"}); err == nil {
		s.Error("an operation of no kind was not refused")
	}
	if _, err := cs.Commit(s.ctx, core.Create("/ok", nil), core.Delete("/", core.AnyVersion)); err == nil {
		s.Error("deleting the root was not refused")
	}
	s.wantNone(cs, "/ok")
	if res, err := cs.Commit(s.ctx); err != nil || len(res) != 0 {
		s.Errorf("an empty commit: %v, %v", res, err)
	}
}

func checkLarge(s *suite) {
	cs := s.open()
	large := bytes.Repeat([]byte("0123456789abcdef"), 32<<10) // half of what ZooKeeper takes
	s.commit(cs, core.Create("/large", large))
	if n := s.get(cs, "/large"); !bytes.Equal(n.Data, large) {
		s.Errorf("%d bytes came back as %d, or changed", len(large), len(n.Data))
	}
	if _, err := cs.Commit(s.ctx, core.Create("/ok", nil), core.Create("/huge", make([]byte, 64<<20))); err == nil {
		s.Error("64 MiB were not refused")
	}
	// The refusal may have cost a session with a server its link, never the tree.
	other := s.open()
	s.sync(other, "/ok")
	s.wantNone(other, "/ok")
}

func checkContexts(s *suite) {
	cs := s.open()
	s.commit(cs, core.Create("/a", nil))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := cs.Commit(ctx, core.Create("/late", nil)); !errors.Is(err, context.Canceled) {
		s.Errorf("Commit: got %v, want %v", err, context.Canceled)
	}
	s.sync(cs, "/late")
	s.wantNone(cs, "/late")
	if _, err := cs.Watch(ctx, "/a"); !errors.Is(err, context.Canceled) {
		s.Errorf("Watch: got %v, want %v", err, context.Canceled)
	}
	if _, err := s.c.Open(ctx); !errors.Is(err, context.Canceled) {
		s.Errorf("Open: got %v, want %v", err, context.Canceled)
	}
	s.get(cs, "/a")
}
