package vfstest

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// node is a file or a directory.
type node struct {
	dir      bool
	mtime    time.Time
	refs     int  // open files
	unlinked bool // without a name

	// Of a file. data is what readers see and medium what the disk has, blocks beyond
	// its size included.
	data   []byte
	medium []byte
	// sizes are those that the file had since it was last synced; the first is the
	// medium's.
	sizes []int64
	dirty map[int]bool // pages written and not on the medium
	fresh map[int]bool // pages that came to the medium after the last cut below them
	lost  map[int]bool // pages that a failed sync has dropped: clean, but not on the medium
	maps  []*mapping

	// Of a directory: what readers see, what the medium has, and the way from there to
	// here.
	entries map[string]*node
	durable map[string]*node
	pending []dirOp
}

func newDir() *node {
	return &node{dir: true, entries: map[string]*node{}, durable: map[string]*node{}}
}

func newFile() *node {
	return &node{sizes: []int64{0}, dirty: map[int]bool{}, fresh: map[int]bool{}, lost: map[int]bool{}}
}

// dirOp makes (from is empty), removes (to is empty) or renames an entry.
type dirOp struct {
	from, to string
	node     *node
}

// apply answers the node that lost its name by it.
func (o dirOp) apply(entries map[string]*node) (gone *node) {
	if o.to == "" {
		gone = entries[o.from]
		delete(entries, o.from)
		return gone
	}
	gone = entries[o.to]
	if o.from != "" {
		delete(entries, o.from)
	}
	entries[o.to] = o.node
	return gone
}

// writeBack brings the first n operations to the medium.
func (n *node) writeBack(count int) {
	for _, op := range n.pending[:count] {
		op.apply(n.durable)
	}
	n.pending = slices.Delete(n.pending, 0, count)
}

// info describes the node.
func (n *node) info(name string) fs.FileInfo {
	return info{name: name, size: int64(len(n.data)), dir: n.dir, mtime: n.mtime}
}

// info implements fs.FileInfo.
type info struct {
	name  string
	size  int64
	dir   bool
	mtime time.Time
}

// Name implements fs.FileInfo.
func (i info) Name() string { return i.name }

// Size implements fs.FileInfo.
func (i info) Size() int64 { return i.size }

// ModTime implements fs.FileInfo.
func (i info) ModTime() time.Time { return i.mtime }

// IsDir implements fs.FileInfo.
func (i info) IsDir() bool { return i.dir }

// Sys implements fs.FileInfo.
func (i info) Sys() any { return nil }

// Mode implements fs.FileInfo.
func (i info) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o755
	}
	return 0o644
}

// bytes is what all files below take.
func (n *node) bytes() int64 {
	total := int64(len(n.data))
	for _, child := range n.entries {
		total += child.bytes()
	}
	return total
}

// forgetMappings takes the mappings and open files of a process that is gone away.
func (n *node) forgetMappings() {
	n.maps, n.refs = nil, 0
	for _, child := range n.entries {
		child.forgetMappings()
	}
}

// page is the range of page p in a buffer of a length.
func page(p, length int) (from, to int) {
	return min(p*pageSize, length), min((p+1)*pageSize, length)
}

// setSize makes the file as long as size, in what readers see.
func (n *node) setSize(size int64) {
	old := int64(len(n.data))
	if size == old {
		return
	}
	if size < old {
		clear(n.data[size:]) // a later extension reads zeros
		n.data = n.data[:size]
		for _, m := range n.maps {
			m.zero(size, old)
		}
		for _, set := range []map[int]bool{n.dirty, n.fresh, n.lost} {
			maps.DeleteFunc(set, func(p int, _ bool) bool { return int64(p)*pageSize >= size })
		}
		// The page that the cut goes through is written again without what was cut off.
		if p := int(size / pageSize); size%pageSize != 0 {
			n.dirty[p] = true
			delete(n.fresh, p)
			delete(n.lost, p)
		}
	} else {
		n.data = slices.Grow(n.data, int(size-old))[:size]
		clear(n.data[old:])
	}
	n.sizes = append(n.sizes, size)
}

// put writes bytes within the size.
func (n *node) put(p []byte, off int64) {
	copy(n.data[off:], p)
	for at := off / pageSize; at*pageSize < off+int64(len(p)); at++ {
		n.dirty[int(at)] = true
		delete(n.lost, int(at))
	}
	for _, m := range n.maps {
		m.see(p, off)
	}
}

// toMedium writes the sectors of a page that are asked for.
func (n *node) toMedium(p int, sector func() bool) {
	end := (p + 1) * pageSize
	if len(n.medium) < end {
		n.medium = slices.Grow(n.medium, end-len(n.medium))
		old := len(n.medium)
		n.medium = n.medium[:end]
		clear(n.medium[old:])
	}
	for at := p * pageSize; at < end; at += sectorSize {
		if !sector() {
			continue
		}
		to := n.medium[at : at+sectorSize]
		from, until := min(at, len(n.data)), min(at+sectorSize, len(n.data))
		clear(to[copy(to, n.data[from:until]):])
	}
}

func always() bool { return true }

// commitSize makes sizes[k] the one of the medium. What lay beyond a cut before is
// gone, but for what was written there since.
func (n *node) commitSize(k int) {
	low := slices.Min(n.sizes[:k+1])
	for p := int(low / pageSize); p*pageSize < len(n.medium); p++ {
		if n.fresh[p] {
			continue
		}
		from, to := page(p, len(n.medium))
		clear(n.medium[max(from, min(int(low), to)):to])
	}
	n.sizes = slices.Delete(n.sizes, 0, k)
}

// someBack writes some pages back, and perhaps a size.
func (n *node) someBack(rnd *rand.Rand) {
	for _, p := range slices.Sorted(maps.Keys(n.dirty)) {
		if rnd.IntN(2) == 0 {
			n.toMedium(p, always)
			delete(n.dirty, p)
			n.fresh[p] = true
		}
	}
	if len(n.sizes) > 1 && rnd.IntN(2) == 0 {
		n.commitSize(rnd.IntN(len(n.sizes)))
	}
}

// sync brings everything to the medium, but for what an earlier sync has lost.
func (n *node) sync() {
	for p := range n.dirty {
		n.toMedium(p, always)
		n.fresh[p] = true
	}
	clear(n.dirty)
	n.commitSize(len(n.sizes) - 1)
	clear(n.fresh)
	if len(n.medium) > len(n.data) {
		n.medium = n.medium[:len(n.data)]
	}
}

// failSync drops the pages that are not on the medium, as Linux does when they
// cannot be written: readers see them still, and no later sync writes them.
func (n *node) failSync(rnd *rand.Rand) {
	for _, p := range slices.Sorted(maps.Keys(n.dirty)) {
		if rnd != nil && rnd.IntN(3) == 0 {
			n.toMedium(p, always)
			n.fresh[p] = true
		} else {
			n.lost[p] = true
		}
	}
	clear(n.dirty)
}

// crash is the node as it is found after a power cut.
func (n *node) crash(rnd *rand.Rand, unordered bool) *node {
	if n.dir {
		return n.crashDir(rnd, unordered)
	}
	k := rnd.IntN(len(n.sizes))
	if rnd.IntN(2) == 0 {
		k = len(n.sizes) - 1
	}
	size := n.sizes[k]
	n.commitSize(k)
	mode := rnd.IntN(4) // all, nothing, some of it
	for _, p := range slices.Sorted(maps.Keys(n.dirty)) {
		switch mode {
		case 0:
			n.toMedium(p, always)
		case 1:
		default:
			switch rnd.IntN(3) {
			case 0:
				n.toMedium(p, always)
			case 1:
				n.toMedium(p, func() bool { return rnd.IntN(2) == 0 })
			}
		}
	}
	out := newFile()
	out.mtime, out.sizes = n.mtime, []int64{size}
	out.medium = make([]byte, size)
	copy(out.medium, n.medium)
	out.data = slices.Clone(out.medium)
	return out
}

func (n *node) crashDir(rnd *rand.Rand, unordered bool) *node {
	if unordered {
		undone := map[string]bool{}
		for _, op := range n.pending {
			if rnd.IntN(3) == 0 || undone[op.from] || undone[op.to] {
				for _, name := range []string{op.from, op.to} {
					if name != "" {
						undone[name] = true
					}
				}
				continue
			}
			op.apply(n.durable)
		}
	} else {
		n.writeBack(rnd.IntN(len(n.pending) + 1))
	}
	out := newDir()
	out.mtime = n.mtime
	for _, name := range slices.Sorted(maps.Keys(n.durable)) {
		child := n.durable[name].crash(rnd, unordered)
		out.entries[name], out.durable[name] = child, child
	}
	return out
}
