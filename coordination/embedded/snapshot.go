package embedded

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/millrace/millrace/core"
)

// A snapshot file is
//
//	magic "MRCOSNP1", generation, zxid, epoch and number of nodes as uvarints,
//	the nodes, parents first, and a CRC32C u32 of all before
//
// and a node is path, data, czxid, mzxid, version, creates and owner.
const snapshotMagic = "MRCOSNP1"

// writeSnapshot writes the tree to a new file and syncs it.
func writeSnapshot(path string, gen uint64, t *tree) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("create snapshot: %w", err)
	}
	size, err = encodeSnapshot(f, gen, t)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", path, err)
	}
	return size, nil
}

func encodeSnapshot(to io.Writer, gen uint64, t *tree) (int64, error) {
	sum := crc32.New(castagnoli())
	w := bufio.NewWriterSize(io.MultiWriter(to, sum), 64<<10)
	b := append([]byte(nil), snapshotMagic...)
	for _, v := range []uint64{gen, uint64(t.zxid), uint64(t.epoch), uint64(len(t.nodes))} {
		b = binary.AppendUvarint(b, v)
	}
	size := int64(len(b)) + 4
	if _, err := w.Write(b); err != nil {
		return 0, err
	}
	paths := make([]string, 0, len(t.nodes))
	for p := range t.nodes {
		paths = append(paths, p)
	}
	slices.Sort(paths) // a parent is a prefix, so it sorts before its children
	for _, p := range paths {
		n := t.nodes[p]
		b = appendString(b[:0], p)
		b = appendString(b, n.data)
		for _, v := range []uint64{uint64(n.czxid), uint64(n.mzxid), uint64(uint32(n.version)), uint64(n.creates), uint64(n.owner)} {
			b = binary.AppendUvarint(b, v)
		}
		size += int64(len(b))
		if _, err := w.Write(b); err != nil {
			return 0, err
		}
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	_, err := to.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return size, err
}

// readSnapshot reads a snapshot file. Everything in it was synced before it got
// its name, so any fault is damage.
func readSnapshot(path string, gen uint64) (*tree, int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read snapshot: %w", err)
	}
	t, at, err := decodeSnapshot(b, gen)
	if err != nil {
		return nil, 0, fmt.Errorf("snapshot %s at offset %d: %w: %w; restore the directory from a backup", path, at, core.ErrCorrupt, err)
	}
	return t, int64(len(b)), nil
}

func decodeSnapshot(b []byte, gen uint64) (t *tree, at int, err error) {
	if len(b) < len(snapshotMagic)+4 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, 0, errors.New("not a coordination snapshot")
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(b[len(body):]) {
		return nil, len(body), errors.New("the checksum is wrong")
	}
	d := decoder{b: body[len(snapshotMagic):]}
	if got := d.uvarint(); got != gen {
		return nil, len(snapshotMagic), fmt.Errorf("it is generation %d, its name says %d", got, gen)
	}
	t = newTree()
	t.zxid, t.epoch = d.int64(), d.int64()
	for range d.count() {
		at := len(body) - len(d.b)
		path := d.path()
		n := &node{data: d.data()}
		n.czxid, n.mzxid, n.version = d.int64(), d.int64(), int32(uint32(d.uvarint()))
		n.creates, n.owner = d.int64(), d.int64()
		if d.err != nil {
			return nil, at, d.err
		}
		if err := t.restore(path, n); err != nil {
			return nil, at, err
		}
	}
	return t, len(body) - len(d.b), d.end()
}

// restore puts a node of a snapshot into the tree. Its parent knows already how
// many children it ever had.
func (t *tree) restore(path string, n *node) error {
	if path == "/" {
		if len(t.nodes) > 1 {
			return errors.New("the root is not first")
		}
		if n.owner != 0 {
			return errors.New("the root is ephemeral")
		}
		t.nodes["/"] = n
		return nil
	}
	if t.nodes[path] != nil {
		return fmt.Errorf("node %s is there twice", path)
	}
	p, err := t.link(path, n)
	if err != nil {
		return err
	}
	p.children++
	return nil
}
