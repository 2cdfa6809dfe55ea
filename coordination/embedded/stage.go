package embedded

import (
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
)

// stage decides commits against the tree as it will be when the commits staged
// before have been applied. Readers go on seeing the tree without them until
// they are durable.
type stage struct {
	tree *tree
	over map[string]*meta // what differs from the tree; nil is a deleted node
	undo []undo           // of the commit being staged
	zxid int64
	txns []txn
}

type undo struct {
	path string
	old  meta
	had  bool // the overlay had an entry
	gone bool // and it was a deleted node
}

func newStage(t *tree) *stage {
	return &stage{tree: t, over: map[string]*meta{}, zxid: t.zxid}
}

// look answers what a node is now; nil when there is none. It is read-only: edit
// gives one to change.
func (s *stage) look(path string) *meta {
	if m, ok := s.over[path]; ok {
		return m
	}
	if n := s.tree.nodes[path]; n != nil {
		return &n.meta
	}
	return nil
}

// put replaces what a node is and remembers how to take it back.
func (s *stage) put(path string, m *meta) {
	old, had := s.over[path]
	u := undo{path: path, had: had, gone: had && old == nil}
	if old != nil {
		u.old = *old
	}
	s.undo = append(s.undo, u)
	s.over[path] = m
}

// edit changes what an existing node is.
func (s *stage) edit(path string, change func(*meta)) *meta {
	m := *s.look(path)
	change(&m)
	s.put(path, &m)
	return &m
}

func (s *stage) rollback() {
	for _, u := range slices.Backward(s.undo) {
		switch {
		case !u.had:
			delete(s.over, u.path)
		case u.gone:
			s.over[u.path] = nil
		default:
			s.over[u.path] = &u.old
		}
	}
	s.undo = s.undo[:0]
}

// commit stages all operations or none.
func (s *stage) commit(session int64, ops []core.Op) ([]core.OpResult, error) {
	s.undo = s.undo[:0]
	x := txn{zxid: s.zxid + 1}
	results := make([]core.OpResult, len(ops))
	for i := range ops {
		res, e, err := s.op(x.zxid, session, &ops[i])
		if err != nil {
			s.rollback()
			return nil, &core.OpError{Index: i, Op: ops[i], Err: err}
		}
		results[i] = res
		if e.kind != 0 {
			x.effects = append(x.effects, e)
		}
	}
	s.add(x)
	return results, nil
}

func (s *stage) add(x txn) {
	if len(x.effects) == 0 {
		return
	}
	s.zxid = x.zxid
	s.txns = append(s.txns, x)
}

// op stages one operation. Its checks come in ZooKeeper's order, so that the same
// error comes out where several would do.
func (s *stage) op(zxid, session int64, op *core.Op) (core.OpResult, effect, error) {
	if op.Kind == core.OpCreate {
		return s.create(zxid, session, op)
	}
	m := s.look(op.Path)
	if m == nil {
		return core.OpResult{}, effect{}, core.ErrNotFound
	}
	if op.Version != core.AnyVersion && op.Version != m.version {
		return core.OpResult{}, effect{}, fmt.Errorf("%w: it has %d, expected %d", core.ErrBadVersion, m.version, op.Version)
	}
	switch op.Kind {
	case core.OpCheck:
		return core.OpResult{Stat: m.stat()}, effect{}, nil
	case core.OpSet:
		m = s.edit(op.Path, func(m *meta) { m.setAt(zxid) })
		return core.OpResult{Stat: m.stat()}, effect{kind: effectSet, path: op.Path, data: op.Data}, nil
	case core.OpDelete:
		if m.children > 0 {
			return core.OpResult{}, effect{}, core.ErrNotEmpty
		}
		s.delete(op.Path)
		return core.OpResult{}, effect{kind: effectDelete, path: op.Path}, nil
	default:
		return core.OpResult{}, effect{}, fmt.Errorf("operation kind %d is unknown", op.Kind)
	}
}

func (s *stage) create(zxid, session int64, op *core.Op) (core.OpResult, effect, error) {
	if op.Path == "/" && !op.Sequential {
		return core.OpResult{}, effect{}, core.ErrNodeExists
	}
	parent := parentOf(op.Path)
	p := s.look(parent)
	if p == nil {
		return core.OpResult{}, effect{}, fmt.Errorf("parent %s: %w", parent, core.ErrNotFound)
	}
	path := op.Path
	if op.Sequential {
		path = fmt.Sprintf("%s%010d", path, p.creates)
	}
	if s.look(path) != nil {
		return core.OpResult{}, effect{}, core.ErrNodeExists
	}
	if p.owner != 0 {
		return core.OpResult{}, effect{}, core.ErrEphemeralParent
	}
	s.edit(parent, (*meta).childAdded)
	var owner int64
	if op.Ephemeral {
		owner = session
	}
	m := newMeta(zxid, owner)
	s.put(path, &m)
	return core.OpResult{Path: path, Stat: m.stat()}, effect{kind: effectCreate, path: path, data: op.Data, owner: owner}, nil
}

func (s *stage) delete(path string) {
	s.put(path, nil)
	s.edit(parentOf(path), (*meta).childRemoved)
}

// end stages the removal of a session's ephemeral nodes.
func (s *stage) end(session int64) {
	s.undo = s.undo[:0]
	paths := slices.Collect(maps.Keys(s.tree.ephemerals[session]))
	for p, m := range s.over {
		if m != nil && m.owner == session {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	x := txn{zxid: s.zxid + 1}
	for _, p := range slices.Compact(paths) {
		if m := s.look(p); m == nil || m.owner != session {
			continue // deleted by a commit staged before
		}
		s.delete(p)
		x.effects = append(x.effects, effect{kind: effectDelete, path: p})
	}
	s.add(x)
}
