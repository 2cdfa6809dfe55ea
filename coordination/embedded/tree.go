package embedded

import (
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
)

// meta is what a node is besides its data and the names of its children.
type meta struct {
	czxid, mzxid int64
	creates      int64 // children ever created: the next sequence number
	owner        int64
	version      int32
	children     int32
}

// stat derives Cversion, which counts creates and deletes, from the creates and
// the children that are left, as ZooKeeper does.
func (m *meta) stat() core.Stat {
	return core.Stat{
		Czxid: m.czxid, Mzxid: m.mzxid, Version: m.version,
		Cversion:       int32(2*m.creates - int64(m.children)),
		EphemeralOwner: m.owner, NumChildren: m.children,
	}
}

func newMeta(zxid, owner int64) meta { return meta{czxid: zxid, mzxid: zxid, owner: owner} }

func (m *meta) setAt(zxid int64) { m.mzxid = zxid; m.version++ }
func (m *meta) childAdded()      { m.creates++; m.children++ }
func (m *meta) childRemoved()    { m.children-- }

type node struct {
	meta
	data  []byte
	names map[string]struct{}
}

// effectKind says what an effect does.
type effectKind uint8

const (
	effectCreate effectKind = iota + 1
	effectSet
	effectDelete
	effectEpoch
)

// effect is one change of the tree with nothing left to decide: sequence numbers
// are filled in and versions checked. Effects are what the log keeps.
type effect struct {
	kind  effectKind
	path  string
	data  []byte // of create and set
	owner int64  // of create; of effectEpoch the new epoch
}

// txn is all effects of one commit; they share a zxid.
type txn struct {
	zxid    int64
	effects []effect
}

// tree is the state that the log and the snapshots rebuild.
type tree struct {
	nodes      map[string]*node
	ephemerals map[int64]map[string]struct{} // paths by session
	zxid       int64                         // of the last transaction applied
	epoch      int64                         // counts the times the tree was opened
}

func newTree() *tree {
	return &tree{
		nodes:      map[string]*node{"/": {}},
		ephemerals: map[int64]map[string]struct{}{},
	}
}

// apply executes a transaction. A failure means that the transaction does not
// belong to this state; the tree is then of no use.
func (t *tree) apply(x txn) error {
	if x.zxid <= t.zxid {
		return fmt.Errorf("transaction %d after %d", x.zxid, t.zxid)
	}
	t.zxid = x.zxid
	for i := range x.effects {
		if err := t.applyEffect(x.zxid, &x.effects[i]); err != nil {
			return fmt.Errorf("transaction %d: %w", x.zxid, err)
		}
	}
	return nil
}

func (t *tree) applyEffect(zxid int64, e *effect) error {
	if e.kind == effectEpoch {
		if e.owner <= t.epoch {
			return fmt.Errorf("epoch %d after %d", e.owner, t.epoch)
		}
		t.epoch = e.owner
		return nil
	}
	n := t.nodes[e.path]
	switch e.kind {
	case effectCreate:
		if n != nil {
			return fmt.Errorf("create %s: %w", e.path, core.ErrNodeExists)
		}
		return t.insert(e.path, &node{meta: newMeta(zxid, e.owner), data: e.data})
	case effectSet:
		if n == nil {
			return fmt.Errorf("set %s: %w", e.path, core.ErrNotFound)
		}
		n.setAt(zxid)
		n.data = e.data
		return nil
	case effectDelete:
		switch {
		case n == nil:
			return fmt.Errorf("delete %s: %w", e.path, core.ErrNotFound)
		case e.path == "/" || n.children > 0:
			return fmt.Errorf("delete %s: %w", e.path, core.ErrNotEmpty)
		}
		t.remove(e.path, n)
		return nil
	default:
		return fmt.Errorf("unknown effect %d", e.kind)
	}
}

// insert adds a node below its parent and counts it there.
func (t *tree) insert(path string, n *node) error {
	p, err := t.link(path, n)
	if err != nil {
		return err
	}
	p.childAdded()
	return nil
}

// link adds a node below its parent without counting it, and answers the parent.
func (t *tree) link(path string, n *node) (*node, error) {
	p := t.nodes[parentOf(path)]
	if p == nil {
		return nil, fmt.Errorf("create %s: parent: %w", path, core.ErrNotFound)
	}
	if p.owner != 0 {
		return nil, fmt.Errorf("create %s: %w", path, core.ErrEphemeralParent)
	}
	if p.names == nil {
		p.names = map[string]struct{}{}
	}
	p.names[nameOf(path)] = struct{}{}
	t.nodes[path] = n
	if n.owner != 0 {
		paths := t.ephemerals[n.owner]
		if paths == nil {
			paths = map[string]struct{}{}
			t.ephemerals[n.owner] = paths
		}
		paths[path] = struct{}{}
	}
	return p, nil
}

func (t *tree) remove(path string, n *node) {
	p := t.nodes[parentOf(path)]
	p.childRemoved()
	delete(p.names, nameOf(path))
	if len(p.names) == 0 {
		p.names = nil // a map keeps the room of its largest day
	}
	delete(t.nodes, path)
	if n.owner != 0 {
		delete(t.ephemerals[n.owner], path)
		if len(t.ephemerals[n.owner]) == 0 {
			delete(t.ephemerals, n.owner)
		}
	}
}

// opening is the transaction that begins a new life of the tree: a new epoch,
// and no ephemeral nodes, for their sessions died with the last process.
func (t *tree) opening() txn {
	x := txn{zxid: t.zxid + 1, effects: []effect{{kind: effectEpoch, owner: t.epoch + 1}}}
	var paths []string
	for _, set := range t.ephemerals {
		paths = slices.AppendSeq(paths, maps.Keys(set))
	}
	slices.Sort(paths)
	for _, p := range paths {
		x.effects = append(x.effects, effect{kind: effectDelete, path: p})
	}
	return x
}
