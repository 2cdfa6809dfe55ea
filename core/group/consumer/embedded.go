package consumer

import (
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/metadata"
)

// consumerType is the protocol type of consumers that use the classic protocol: what
// they send as metadata and assignments has the forms below.
const consumerType = "consumer"

// subscription is a ConsumerProtocolSubscription, which a member of the classic protocol
// sends in JoinGroup.
type subscription struct {
	version int16
	topics  []string
	owned   map[string][]int32 // from version 1 on
	rack    *string            // from version 3 on
}

// embedded reads the fields of the embedded protocol. After the first that is not there
// it is bad, and everything reads as zero.
type embedded struct {
	b   []byte
	bad bool
}

func (e *embedded) take(n int) []byte {
	if n < 0 || n > len(e.b) {
		e.bad, e.b = true, nil
		return nil
	}
	t := e.b[:n]
	e.b = e.b[n:]
	return t
}

func (e *embedded) int16() int16 {
	if t := e.take(2); t != nil {
		return int16(binary.BigEndian.Uint16(t))
	}
	return 0
}

func (e *embedded) int32() int32 {
	if t := e.take(4); t != nil {
		return int32(binary.BigEndian.Uint32(t))
	}
	return 0
}

func (e *embedded) text() string { return string(e.take(int(e.int16()))) }

// count is the number of elements of an array, each of which takes some bytes at least.
func (e *embedded) count(least int) int {
	n := int(e.int32())
	if n < 0 || n > len(e.b)/least {
		e.take(-1)
		return 0
	}
	return n
}

// bytes skips bytes or null.
func (e *embedded) bytes() {
	if n := int(e.int32()); n != -1 {
		e.take(n)
	}
}

// topics reads partitions by topic. Room is made for what is there, not for what is said
// to be.
func (e *embedded) topics() map[string][]int32 {
	m := map[string][]int32{}
	for n := e.count(6); n > 0 && !e.bad; n-- {
		name := e.text()
		for range e.count(4) {
			m[name] = append(m[name], e.int32())
		}
	}
	return m
}

func malformed(what string) error {
	return core.Failf(kerr.InconsistentGroupProtocol.Code, "The embedded consumer protocol is malformed in the member's %s.", what)
}

// readSubscription reads a subscription of any version: what a newer one has at its end
// is not looked at.
func readSubscription(b []byte) (subscription, error) {
	e := embedded{b: b}
	s := subscription{version: e.int16()}
	for n := e.count(2); n > 0 && !e.bad; n-- {
		s.topics = append(s.topics, e.text())
	}
	e.bytes()
	if s.version >= 1 {
		s.owned = e.topics()
	}
	if s.version >= 2 {
		e.int32() // the generation in which it came to own them
	}
	if s.version >= 3 {
		if size := int(e.int16()); size >= 0 {
			rack := string(e.take(size))
			s.rack = &rack
		}
	}
	if e.bad || s.version < 0 {
		return subscription{}, malformed("subscription")
	}
	s.topics = names(s.topics)
	return s, nil
}

// readAssignment reads a ConsumerProtocolAssignment; no bytes are no partitions.
func readAssignment(b []byte, image *metadata.Image) (assign.Partitions, error) {
	if len(b) == 0 {
		return assign.Partitions{}, nil
	}
	e := embedded{b: b}
	version := e.int16()
	topics := e.topics()
	if e.bad || version < 0 {
		return nil, malformed("assignment")
	}
	return identified(topics, image), nil
}

// identified are partitions by the ids of their topics. Topics that do not exist are left
// out, and partitions that no topic can have. One that this broker does not know of yet is
// not: the member may have it.
func identified(topics map[string][]int32, image *metadata.Image) assign.Partitions {
	s := set{}
	for name, numbers := range topics {
		if t, ok := image.Topic(name); ok && !t.ID.IsZero() {
			s.add(t.ID, slices.DeleteFunc(numbers, func(n int32) bool { return n < 0 }))
		}
	}
	return s.partitions()
}

// writeAssignment makes a ConsumerProtocolAssignment. Topics that do not exist any more
// are left out.
func writeAssignment(version int16, p assign.Partitions, image *metadata.Image) []byte {
	named := map[string][]int32{}
	for id, numbers := range p {
		if t, ok := image.TopicByID(id); ok {
			named[t.Name] = numbers
		}
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(len(named)))
	for _, name := range sortedKeys(named) {
		b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(named[name])))
		for _, n := range named[name] {
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		}
	}
	return binary.BigEndian.AppendUint32(b, 1<<32-1) // no user data
}
