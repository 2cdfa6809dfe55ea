package embedded

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"
)

func seedTxns() []txn {
	return []txn{
		{zxid: 1, effects: []effect{{kind: effectEpoch, owner: 1}}},
		{zxid: 2, effects: []effect{
			{kind: effectCreate, path: "/a", data: []byte("x"), owner: 1<<32 | 1},
			{kind: effectSet, path: "/a", data: []byte("y")},
			{kind: effectDelete, path: "/a"},
		}},
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(appendBatch(nil, seedTxns()))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		txns, err := decodeBatch(b)
		if err != nil {
			return
		}
		again, err := decodeBatch(appendBatch(nil, txns))
		if err != nil || !reflect.DeepEqual(again, txns) {
			t.Errorf("%v became %v: %v", txns, again, err)
		}
	})
}

// FuzzReplay gives replay a file whose frames have right checksums, so that the
// fuzzer gets past them, with bytes behind that are none.
func FuzzReplay(f *testing.F) {
	f.Add(uint64(7), appendBatch(nil, seedTxns()[:1]), appendBatch(nil, seedTxns()[1:]), []byte{1, 2, 3})
	f.Add(uint64(0), []byte{}, []byte{}, make([]byte, 40))
	f.Fuzz(func(t *testing.T, salt uint64, one, two, tail []byte) {
		file := make([]byte, headerSize)
		for _, payload := range [][]byte{one, two} {
			pos := len(file)
			file = binary.BigEndian.AppendUint32(file, uint32(salt))
			file = binary.BigEndian.AppendUint32(file, uint32(len(payload)))
			file = binary.BigEndian.AppendUint32(file, frameSum(salt, pos, payload))
			file = append(file, payload...)
		}
		whole := len(file)
		file = append(file, tail...)
		tr := newTree()
		end, err := replay(file, salt, tr.apply)
		if end < headerSize || end > int64(len(file)) {
			t.Fatalf("end %d of %d", end, len(file))
		}
		if err == nil && end < int64(whole) {
			t.Errorf("the log was cut at %d, inside its whole frames of %d", end, whole)
		}
		checkTree(t, tr)
	})
}

func FuzzSnapshot(f *testing.F) {
	tr := newTree()
	for _, x := range seedTxns()[:1] {
		if err := tr.apply(x); err != nil {
			f.Fatal(err)
		}
	}
	if err := tr.apply(txn{zxid: 9, effects: []effect{{kind: effectCreate, path: "/a", owner: 5}, {kind: effectCreate, path: "/b"}, {kind: effectCreate, path: "/b/c", data: []byte("x")}}}); err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := encodeSnapshot(&b, 3, tr); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[:b.Len()-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		file := binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli()))
		tr, at, err := decodeSnapshot(file, 3)
		if at < 0 || at > len(file) {
			t.Fatalf("position %d of %d", at, len(file))
		}
		if err != nil {
			return
		}
		checkTree(t, tr)
		var again bytes.Buffer
		size, err := encodeSnapshot(&again, 3, tr)
		if err != nil || size != int64(again.Len()) {
			t.Fatalf("size %d of %d: %v", size, again.Len(), err)
		}
		same, _, err := decodeSnapshot(again.Bytes(), 3)
		if err != nil || !reflect.DeepEqual(same, tr) {
			t.Errorf("the snapshot of a snapshot is another: %v", err)
		}
	})
}

// checkTree holds what must be true of every tree, however it was made.
func checkTree(t *testing.T, tr *tree) {
	t.Helper()
	for p, n := range tr.nodes {
		if int(n.children) != len(n.names) {
			t.Errorf("%s counts %d children and has %d", p, n.children, len(n.names))
		}
		for name := range n.names {
			child := p + "/" + name
			if p == "/" {
				child = p + name
			}
			if tr.nodes[child] == nil {
				t.Errorf("%s has no node %s", p, child)
			}
		}
		if _, ok := tr.ephemerals[n.owner][p]; ok != (n.owner != 0) {
			t.Errorf("%s of owner %d is among the ephemerals: %v", p, n.owner, ok)
		}
	}
}
