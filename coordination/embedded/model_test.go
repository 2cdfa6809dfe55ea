package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
)

// model is the tree in its plainest form: each commit works on a copy.
type model map[string]modelNode

type modelNode struct {
	data             string
	version          int32
	creates, changes int
	owner            int64
}

func (m model) children(p string) (names []string) {
	for q := range m {
		if q != "/" && path.Dir(q) == p {
			names = append(names, path.Base(q))
		}
	}
	slices.Sort(names)
	return names
}

func (m model) change(p string, f func(*modelNode)) {
	n := m[p]
	f(&n)
	m[p] = n
}

func (m model) delete(p string) {
	delete(m, p)
	m.change(path.Dir(p), func(n *modelNode) { n.changes++ })
}

// commit answers the tree after the operations, or the index and error of the
// one that fails.
func (m model) commit(session int64, ops []core.Op) (after model, paths []string, index int, err error) {
	after = maps.Clone(m)
	for i, op := range ops {
		p, err := after.op(session, op)
		if err != nil {
			return m, nil, i, err
		}
		paths = append(paths, p)
	}
	return after, paths, 0, nil
}

func (m model) op(session int64, op core.Op) (string, error) {
	if op.Kind == core.OpCreate {
		parent, ok := m[path.Dir(op.Path)]
		if !ok {
			return "", core.ErrNotFound
		}
		p := op.Path
		if op.Sequential {
			p += fmt.Sprintf("%010d", parent.creates)
		}
		if _, ok := m[p]; ok {
			return "", core.ErrNodeExists
		}
		if parent.owner != 0 {
			return "", core.ErrEphemeralParent
		}
		n := modelNode{data: string(op.Data)}
		if op.Ephemeral {
			n.owner = session
		}
		m[p] = n
		m.change(path.Dir(p), func(n *modelNode) { n.creates++; n.changes++ })
		return p, nil
	}
	n, ok := m[op.Path]
	switch {
	case !ok:
		return "", core.ErrNotFound
	case op.Version != core.AnyVersion && op.Version != n.version:
		return "", core.ErrBadVersion
	case op.Kind == core.OpSet:
		m.change(op.Path, func(n *modelNode) { n.data = string(op.Data); n.version++ })
	case op.Kind == core.OpDelete && len(m.children(op.Path)) > 0:
		return "", core.ErrNotEmpty
	case op.Kind == core.OpDelete:
		m.delete(op.Path)
	}
	return "", nil
}

func (m model) end(session int64) {
	for p, n := range m {
		if n.owner != 0 && (n.owner == session || session == 0) {
			m.delete(p)
		}
	}
}

func randomOp(r *rand.Rand, known []string) core.Op {
	p := "/"
	for range 1 + r.IntN(3) {
		p = path.Join(p, string(rune('a'+r.IntN(3))))
	}
	if r.IntN(3) == 0 {
		if q := known[r.IntN(len(known))]; q != "/" {
			p = q
		}
	}
	data := bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(4))
	version := core.AnyVersion
	if r.IntN(3) == 0 {
		version = int32(r.IntN(3))
	}
	switch r.IntN(8) {
	case 0, 1, 2, 3:
		return core.Op{Kind: core.OpCreate, Path: p, Data: data, Ephemeral: r.IntN(5) == 0, Sequential: r.IntN(6) == 0}
	case 4:
		return core.Set(p, data, version)
	case 5, 6:
		return core.Delete(p, version)
	default:
		return core.Check(p, version)
	}
}

func compare(t *testing.T, s core.CoordinatorSession, m model) {
	t.Helper()
	for p, want := range m {
		n, err := s.Get(t.Context(), p)
		if err != nil {
			t.Fatalf("Get %s: %v", p, err)
		}
		names := m.children(p)
		if string(n.Data) != want.data || n.Stat.Version != want.version || n.Stat.EphemeralOwner != want.owner ||
			int(n.Stat.Cversion) != want.changes || int(n.Stat.NumChildren) != len(names) {
			t.Fatalf("%s is %q %+v, want %+v and %d children", p, n.Data, n.Stat, want, len(names))
		}
		got, _, err := s.Children(t.Context(), p)
		if err != nil || !slices.Equal(got, names) {
			t.Fatalf("children of %s: %v, %v; want %v", p, got, err, names)
		}
	}
}

func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			o := Options{Dir: t.TempDir(), LogLimit: 1 + int64(r.IntN(4000))}
			c, s := mustOpen(t, o)
			m := model{"/": {}}
			for step := range 1500 {
				switch r.IntN(100) {
				case 0: // a session ends and another one begins
					if err := c.Expire(s.ID()); err != nil {
						t.Fatal(err)
					}
					m.end(s.ID())
					next, err := c.Open(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					s = next.(*Session)
				case 1: // a restart; half the time without the clean end
					if r.IntN(2) == 0 {
						o.Dir = crashed(t, c, o.Dir)
					} else if err := c.Close(); err != nil {
						t.Fatal(err)
					}
					c, s = mustOpen(t, o)
					m.end(0)
					compare(t, s, m)
				}
				known := slices.Sorted(maps.Keys(m))
				ops := make([]core.Op, 1+r.IntN(4)*r.IntN(2))
				for i := range ops {
					ops[i] = randomOp(r, known)
				}
				res, err := s.Commit(t.Context(), ops...)
				after, paths, index, want := m.commit(s.ID(), ops)
				if !errors.Is(err, want) || want == nil && err != nil {
					t.Fatalf("step %d: commit %v: got %v, want %v", step, ops, err, want)
				}
				if want != nil {
					if op, ok := errors.AsType[*core.OpError](err); !ok || op.Index != index {
						t.Fatalf("step %d: commit %v: got %v, want it at %d", step, ops, err, index)
					}
					continue
				}
				for i := range res {
					if res[i].Path != paths[i] {
						t.Fatalf("step %d: path %q, want %q", step, res[i].Path, paths[i])
					}
				}
				if m = after; step%50 == 0 {
					compare(t, s, m)
				}
			}
			compare(t, s, m)
			if strings.Join(slices.Sorted(maps.Keys(m)), " ") == "/" {
				t.Error("the model was empty at the end; the test is too weak")
			}
		})
	}
}

// crashed copies the directory while nothing is in flight and gives the copy a
// tree as a killed process would leave it.
func crashed(t *testing.T, c *Coordinator, dir string) string {
	t.Helper()
	// A commit that changes nothing is answered only when the committer has finished
	// with the one before, a change of generation included.
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), core.Check("/", core.AnyVersion)); err != nil {
		t.Fatal(err)
	}
	return copyDir(t, dir)
}

// TestStageModel stages several commits, of two sessions, and ends of sessions in
// one batch, as concurrent callers have it: a refused commit must leave nothing
// behind for those after it.
func TestStageModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		tr, m := newTree(), model{"/": {}}
		for range 100 {
			st := newStage(tr)
			for range 1 + r.IntN(12) {
				session := 1 + r.Int64N(2)
				if r.IntN(15) == 0 {
					st.end(session)
					m.end(session)
					continue
				}
				known := slices.Sorted(maps.Keys(m))
				ops := make([]core.Op, 1+r.IntN(6))
				for i := range ops {
					ops[i] = randomOp(r, known)
				}
				_, err := st.commit(session, ops)
				after, _, index, want := m.commit(session, ops)
				if !errors.Is(err, want) || want == nil && err != nil {
					t.Fatalf("seed %d: commit %v: got %v, want %v", seed, ops, err, want)
				}
				if op, ok := errors.AsType[*core.OpError](err); ok && op.Index != index {
					t.Fatalf("seed %d: commit %v: got %v at %d, want it at %d", seed, ops, err, op.Index, index)
				}
				m = after
			}
			for _, x := range st.txns {
				if err := tr.apply(x); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			checkTree(t, tr)
			for p, meta := range st.over { // the stage foresaw what the tree became
				if n := tr.nodes[p]; (n == nil) != (meta == nil) || n != nil && n.meta != *meta {
					t.Fatalf("seed %d: %s was staged as %+v and is %+v", seed, p, meta, n)
				}
			}
			if len(tr.nodes) != len(m) {
				t.Fatalf("seed %d: %d nodes, want %d", seed, len(tr.nodes), len(m))
			}
			for p, want := range m {
				n := tr.nodes[p]
				if n == nil || string(n.data) != want.data || n.version != want.version || n.owner != want.owner ||
					int(n.stat().Cversion) != want.changes || int(n.creates) != want.creates {
					t.Fatalf("seed %d: %s is %+v, want %+v", seed, p, n, want)
				}
			}
		}
	}
}
