package remote

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// FuzzRuleFromProto: whatever rule a plugin sends, it is refused or places every key among
// the topic's partitions.
func FuzzRuleFromProto(f *testing.F) {
	for _, r := range []*pb.Rule{
		{},
		{Others: &pb.Places{All: true}, Keyless: &pb.Places{Partitions: []uint32{0, 1}}},
		{Part: pb.KeyPart_KEY_PART_AFTER, Delimiter: 300},
		{Others: &pb.Places{Partitions: []uint32{1 << 31}}},
		{Others: &pb.Places{Ring: []*pb.RingPoint{{Point: 1, Partition: 2}, {Point: 9, Partition: 1}}}},
		{Entries: []*pb.Entry{{Part: []byte("a"), Places: &pb.Places{All: true, Hash: 99}}}},
	} {
		text, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, []byte("a:b"), int32(4))
	}
	f.Fuzz(func(t *testing.T, text, key []byte, n int32) {
		var in pb.Rule
		if n <= 0 || proto.Unmarshal(text, &in) != nil {
			return
		}
		r, err := ruleFromProto(&in, n)
		if err != nil {
			return
		}
		for _, k := range [][]byte{key, nil, {}} {
			if got := r.Place(k, n); got < -1 || got >= n {
				t.Fatalf("key %q: partition %d of %d", k, got, n)
			}
		}
	})
}
