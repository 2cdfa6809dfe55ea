package schema

import (
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestVersionsWritten: the versions are those that Kafka 3.9 writes.
func TestVersionsWritten(t *testing.T) {
	t.Parallel()
	expiring := NewOffsetCommitValue()
	expiring.ExpireTimestamp = 5
	for _, c := range []struct {
		r    Record
		want uint16
	}{
		{&OffsetCommit{Value: NewOffsetCommitValue()}, 3},
		{&OffsetCommit{Value: expiring}, 1},
		{&GroupMetadata{Value: &GroupMetadataValue{}}, 3},
		{&ConsumerGroupMetadata{Value: &ConsumerGroupMetadataValue{}}, 0},
	} {
		_, value, err := Encode(c.r)
		if got := binary.BigEndian.Uint16(value); err != nil || got != c.want {
			t.Errorf("%T: version %d, error %v, want version %d", c.r, got, err, c.want)
		}
	}
}

// TestKmsgReads has another implementation read what is written.
func TestKmsgReads(t *testing.T) {
	t.Parallel()
	records := written()
	key, value, err := Encode(records["offset-v3"])
	if err != nil {
		t.Fatal(err)
	}
	var k kmsg.OffsetCommitKey
	var v kmsg.OffsetCommitValue
	if err := errors.Join(k.ReadFrom(key), v.ReadFrom(value)); err != nil {
		t.Fatal(err)
	}
	if k.Group != "group" || k.Topic != "topic" || k.Partition != 3 || v.Offset != 1<<40 || v.LeaderEpoch != 7 || v.Metadata != "méta" {
		t.Errorf("kmsg reads %+v %+v", k, v)
	}
	_, value, err = Encode(records["group-v3"])
	if err != nil {
		t.Fatal(err)
	}
	var g kmsg.GroupMetadataValue
	if err := g.ReadFrom(value); err != nil {
		t.Fatal(err)
	}
	if len(g.Members) != 2 || *g.Members[0].InstanceID != "instance" || *g.Leader != "member" || string(g.Members[0].Assignment) != "\x02\x03\x04" {
		t.Errorf("kmsg reads %+v", g)
	}
}

// TestBadRecords: what cannot be read has the error that tells a loader what to do.
func TestBadRecords(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		for cut := range v.key {
			if _, err := Decode(v.key[:cut], v.value); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: key cut to %d bytes: %v", v.name, cut, err)
			}
		}
		for cut := range v.value {
			if _, err := Decode(v.key, v.value[:cut]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: value cut to %d bytes: %v", v.name, cut, err)
			}
		}
		if _, err := Decode(v.key, []byte{0, 5}); v.name != "" {
			var unknown *UnknownVersionError
			if !errors.As(err, &unknown) || unknown.Version != 5 {
				t.Errorf("%s: version 5: %v", v.name, err)
			}
		}
	}
	for _, kind := range []int16{-1, 9, 15, 17, 1000} {
		_, err := Decode(binary.BigEndian.AppendUint16(nil, uint16(kind)), nil)
		var unknown *UnknownTypeError
		if !errors.As(err, &unknown) || unknown.Type != Type(kind) {
			t.Errorf("type %d: %v", kind, err)
		}
	}
}

// TestUnknownTags: what a newer Kafka adds as tagged fields is skipped.
func TestUnknownTags(t *testing.T) {
	t.Parallel()
	key, value, err := Encode(written()["epoch-hash"])
	if err != nil {
		t.Fatal(err)
	}
	value[6] = 2 // tagged fields
	value = append(value, 9, 3, 'n', 'e', 'w')
	got, err := Decode(key, value)
	if err != nil || !reflect.DeepEqual(got, written()["epoch-hash"]) {
		t.Errorf("read %+v, error %v", got, err)
	}
}

// TestTooLong: a string that its place has no room for is refused, not cut.
func TestTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<15)
	value := NewOffsetCommitValue()
	value.Metadata = long
	for _, r := range []Record{
		&OffsetCommit{Group: long, Value: NewOffsetCommitValue()}, &OffsetCommit{Value: value}, &OffsetCommit{Topic: long},
		&GroupMetadata{Value: &GroupMetadataValue{Leader: &long}},
		&GroupMetadata{Value: &GroupMetadataValue{Members: []GroupMember{{ClientID: long}}}},
		&ConsumerGroupMemberMetadata{MemberID: long},
	} {
		if _, _, err := Encode(r); !errors.Is(err, ErrTooLong) {
			t.Errorf("%T: %v", r, err)
		}
	}
	// The places with compact lengths have room.
	member := &ConsumerGroupMemberMetadata{Value: &ConsumerGroupMemberMetadataValue{ClientID: long}}
	key, b, err := Encode(member)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(key, b); err != nil || !reflect.DeepEqual(got, member) {
		t.Errorf("a client id of %d bytes comes back as %+v, error %v", len(long), got, err)
	}
}

// TestLengthsCostNothing: a few bytes that claim a long array, or many tagged fields,
// cost neither memory nor time.
func TestLengthsCostNothing(t *testing.T) {
	// Not parallel: it counts what the process allocates.
	group := []byte{0, 3, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x7f, 255, 255, 255}
	tags := []byte{0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 15}
	for key, value := range map[string][]byte{"\x00\x02\x00\x00": group, "\x00\x03\x00\x00": tags} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode([]byte(key), value)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrCorrupt) || after.TotalAlloc-before.TotalAlloc > 1<<16 {
			t.Errorf("%x: error %v, %d bytes allocated", value, err, after.TotalAlloc-before.TotalAlloc)
		}
	}
}

// FuzzDecode: no bytes crash the decoder, and what it has read it writes and reads
// again.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.key, v.value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := Decode(key, value)
		if err != nil {
			return
		}
		_, highest := r.versions()
		k, v, err := encode(r, highest)
		if o, ok := r.(*OffsetCommit); ok && o.Value != nil && o.Value.ExpireTimestamp != -1 {
			k, v, err = encode(r, expiringOffsetVersion)
		}
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", r, err)
		}
		again, err := Decode(k, v)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v comes back as %+v, error %v", r, again, err)
		}
	})
}
