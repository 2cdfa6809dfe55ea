package compact

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"
)

// TestSipHash holds the hash against published vectors: key 00 to 0f, input 00, 01
// and so on.
func TestSipHash(t *testing.T) {
	t.Parallel()
	key := hashKey{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	var input []byte
	for n, want := range []string{
		"a3817f04ba25a8e66df67214c7550293", "da87c1d86b99af44347659119b22fc45", "8177228da4a45dc7fca38bdef60affe4",
	} {
		lo, hi := key.sum(input)
		out := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, lo), hi)
		if got := hex.EncodeToString(out); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
		input = append(input, byte(n))
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var x table
	for range 3 {
		x.reset(1<<40, 24*1000, 0.9)
		if len(x.slots) != 1000 || x.max != 900 {
			t.Fatalf("%d slots, %d keys at most", len(x.slots), x.max)
		}
		for i := range 900 {
			if _, ok := x.put(x.digest(fmt.Append(nil, "key", i)), int64(i)); !ok {
				t.Fatalf("full after %d", i)
			}
		}
		if _, ok := x.put(x.digest([]byte("one more")), 1); ok || x.get(x.digest([]byte("one more"))) != -1 {
			t.Fatal("it takes more than it should")
		}
		if older, ok := x.put(x.digest([]byte("key7")), 1007); !ok || older != 7 {
			t.Fatal("a key that is there is refused")
		}
		for i := range 900 {
			want := int64(i)
			if i == 7 {
				want = 1007
			}
			if got := x.get(x.digest(fmt.Append(nil, "key", i))); got != want {
				t.Fatalf("key %d: %d", i, got)
			}
		}
	}
	// No more memory than the offsets can need.
	x = table{}
	x.reset(10, 1<<30, 0.5)
	if len(x.slots) > 30 || x.max < 10 {
		t.Fatalf("%d slots, %d keys at most", len(x.slots), x.max)
	}
	x.reset(0, 0, 0.9)
	if older, ok := x.put(x.digest(nil), 0); !ok || older != -1 || x.get(x.digest(nil)) != 0 || x.get(x.digest([]byte{0})) != -1 {
		t.Fatal("the smallest table")
	}
}
