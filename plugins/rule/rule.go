// Package rule evaluates the rules that partitioner plugins publish: functions from
// a record's key to a partition that need no call to the plugin. A broker and a
// client that hold the same rule place a key alike.
package rule

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/internal/keyhash"
)

// Undecided is the answer for a key on which the rule has no say.
const Undecided int32 = -1

// Part says what of a key the entries of a rule are looked up by.
type Part uint8

// The parts of a key.
const (
	Whole  Part = iota
	Before      // what stands before the first delimiter
	After       // what stands after the first delimiter
)

// Hash names a hash function of the whole key.
type Hash uint8

// The hash functions.
const (
	Murmur2 Hash = iota // the Java client's, 31 bits
	CRC32               // librdkafka's consistent
	FNV1a               // librdkafka's and Sarama's fnv1a
)

// Of is the hash of a key.
func (h Hash) Of(key []byte) uint32 {
	switch h {
	case CRC32:
		return keyhash.CRC32(key)
	case FNV1a:
		return keyhash.FNV1a(key)
	default:
		return keyhash.Positive31(key)
	}
}

// Point is one point of a hash ring.
type Point struct {
	Point     uint32
	Partition uint32
}

// Places are where records may go. The zero value leaves them undecided.
type Places struct {
	// Partitions among which the hash chooses: Partitions[hash % len].
	Partitions []uint32
	// All lets the hash choose among all partitions of the topic.
	All bool
	// Ring is sorted by point: the first point at or after the hash, else the first.
	Ring []Point
	Hash Hash
}

// Entry gives one part of a key its places.
type Entry struct {
	Part   []byte
	Places Places
}

// Rule is a function from keys to partitions. Fill the exported fields and call
// Prepare once; after that it is read-only and safe for concurrent use.
type Rule struct {
	Part      Part
	Delimiter byte
	// Entries are looked at first, Others is for the keys that have none.
	Entries []Entry
	Others  Places
	// Keyless is for records without a key.
	Keyless Places

	index map[string]*Places
	most  uint64 // highest partition that is named, plus one
}

// ErrInvalid says that a rule makes no sense.
var ErrInvalid = errors.New("invalid rule")

// Prepare checks the rule and makes it ready. A part that stands twice, a ring that
// is not sorted and places that are given in two ways are ErrInvalid.
func (r *Rule) Prepare() error {
	if r.Part > After {
		return fmt.Errorf("%w: part %d of a key is not known", ErrInvalid, r.Part)
	}
	r.index, r.most = make(map[string]*Places, len(r.Entries)), 0
	for i := range r.Entries {
		e := &r.Entries[i]
		if _, twice := r.index[string(e.Part)]; twice {
			return fmt.Errorf("%w: the part %q stands twice", ErrInvalid, e.Part)
		}
		r.index[string(e.Part)] = &e.Places
		if err := r.check(&e.Places); err != nil {
			return fmt.Errorf("places of %q: %w", e.Part, err)
		}
	}
	if err := r.check(&r.Others); err != nil {
		return fmt.Errorf("places of the others: %w", err)
	}
	if err := r.check(&r.Keyless); err != nil {
		return fmt.Errorf("places without a key: %w", err)
	}
	return nil
}

func (r *Rule) check(p *Places) error {
	ways := 0
	for _, given := range []bool{len(p.Partitions) > 0, p.All, len(p.Ring) > 0} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return fmt.Errorf("%w: partitions, all and a ring exclude each other", ErrInvalid)
	case p.Hash > FNV1a:
		return fmt.Errorf("%w: hash %d is not known", ErrInvalid, p.Hash)
	case !slices.IsSortedFunc(p.Ring, func(a, b Point) int { return cmp.Compare(a.Point, b.Point) }):
		return fmt.Errorf("%w: the ring is not sorted by point", ErrInvalid)
	}
	for _, n := range p.Partitions {
		r.most = max(r.most, uint64(n)+1)
	}
	for _, pt := range p.Ring {
		r.most = max(r.most, uint64(pt.Partition)+1)
	}
	return nil
}

// Fits reports whether a topic with n partitions has all that the rule names.
func (r *Rule) Fits(n int32) bool { return n > 0 && r.most <= uint64(n) }

// Place is the partition of a key among n, or Undecided. A nil key is none. It does
// not allocate. The rule must fit n: see Fits.
func (r *Rule) Place(key []byte, n int32) int32 {
	if key == nil {
		return r.Keyless.pick(key, n)
	}
	if len(r.index) > 0 {
		if p, ok := r.index[string(r.part(key))]; ok {
			return p.pick(key, n)
		}
	}
	return r.Others.pick(key, n)
}

// part is what of the key is looked up.
func (r *Rule) part(key []byte) []byte {
	if r.Part == Whole {
		return key
	}
	i := bytes.IndexByte(key, r.Delimiter)
	switch {
	case i < 0:
		return key
	case r.Part == Before:
		return key[:i]
	default:
		return key[i+1:]
	}
}

func (p *Places) pick(key []byte, n int32) int32 {
	switch {
	case p.All:
		return int32(p.Hash.Of(key) % uint32(n))
	case len(p.Partitions) == 1:
		return int32(p.Partitions[0])
	case len(p.Partitions) > 1:
		return int32(p.Partitions[p.Hash.Of(key)%uint32(len(p.Partitions))])
	case len(p.Ring) > 0:
		h := p.Hash.Of(key)
		lo, hi := 0, len(p.Ring)
		for lo < hi {
			mid := int(uint(lo+hi) >> 1)
			if p.Ring[mid].Point < h {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		if lo == len(p.Ring) {
			lo = 0
		}
		return int32(p.Ring[lo].Partition)
	default:
		return Undecided
	}
}
