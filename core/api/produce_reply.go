package api

// encode builds the response in the pooled buffer.
func (p *producing) encode() {
	b := putInt32(p.buf[:0], p.correlation)
	b = putNoTags(b, p.flexible)
	b = putLength(b, len(p.topics), 32, p.flexible)
	next := 0
	for i := range p.topics {
		t := &p.topics[i]
		if p.version >= produceTopicIDs {
			b = append(b, t.id[:]...)
		} else {
			b = putText(b, t.name, p.flexible)
		}
		b = putLength(b, t.parts, 32, p.flexible)
		for range t.parts {
			b = p.parts[next].encode(b, p.version, p.flexible)
			next++
		}
		b = putNoTags(b, p.flexible)
	}
	if p.version >= 1 {
		b = putInt32(b, 0) // throttle time in ms
	}
	if p.flexible {
		b = putNodeEndpoints(b, p.image, p.listener, p.nodes)
	}
	p.buf = b
}

func (part *producePart) encode(b []byte, version int16, flexible bool) []byte {
	b = putInt32(b, part.partition)
	b = putInt16(b, part.code)
	b = putInt64(b, part.base)
	if version >= 2 {
		b = putInt64(b, part.appendTime)
	}
	if version >= 5 {
		b = putInt64(b, part.logStart)
	}
	if version >= produceErrors {
		b = putLength(b, len(part.recordErrors), 32, flexible)
		for i := range part.recordErrors {
			e := &part.recordErrors[i]
			b = putInt32(b, e.Index)
			b = putNullableText(b, e.Message, flexible)
			b = putNoTags(b, flexible)
		}
		b = putNullableText(b, part.message, flexible)
	}
	if !flexible {
		return b
	}
	if version < produceHints || part.hint == noHint() {
		return append(b, 0)
	}
	return putCurrentLeader(append(b, 1), 0, part.hint)
}
