package mmap

import "sync"

// positions remembers where batches begin: where the last appends ended, which is
// where consumers that follow and high watermarks point, and where the last reads
// ended, which is where their consumers go on.
type positions struct {
	mu    sync.Mutex
	epoch uint64 // of the log; what was learnt in another one is worthless
	rings *rings // nil until there is something to remember: most logs are idle
}

type rings struct {
	appended [32]position
	read     [32]position
	na, nr   int
}

// memory is the rings; p.mu is held.
func (p *positions) memory() *rings {
	if p.rings == nil {
		p.rings = new(rings)
	}
	return p.rings
}

// position says that the batch with the offset, or the next one where the offset
// is in a gap, begins at pos of the segment at base; or will, at the end.
type position struct{ base, offset, pos int64 }

// find answers the position of offset in the segment at base.
func (p *positions) find(base, offset int64) (pos int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.rings
	if r == nil {
		return 0, false
	}
	for i := range r.read[:min(r.nr, len(r.read))] {
		if m := &r.read[i]; m.offset == offset && m.base == base {
			return m.pos, true
		}
	}
	// The latest are the likeliest.
	for i := r.na - 1; i >= 0 && i >= r.na-len(r.appended); i-- {
		if m := &r.appended[i%len(r.appended)]; m.offset == offset && m.base == base {
			return m.pos, true
		}
	}
	return 0, false
}

// afterAppend is called by the writer, which knows that the epoch is its own.
func (p *positions) afterAppend(m position) {
	p.mu.Lock()
	r := p.memory()
	r.appended[r.na%len(r.appended)] = m
	r.na++
	p.mu.Unlock()
}

// afterRead remembers where a read ended, unless the log was cut meanwhile.
func (p *positions) afterRead(epoch uint64, m position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if epoch != p.epoch {
		return
	}
	r := p.memory()
	for i := range r.read[:min(r.nr, len(r.read))] {
		if r.read[i] == m {
			return
		}
	}
	r.read[r.nr%len(r.read)] = m
	r.nr++
}

// forget drops everything: the log was cut and offsets may come again elsewhere.
func (p *positions) forget(epoch uint64) {
	p.mu.Lock()
	p.epoch, p.rings = epoch, nil
	p.mu.Unlock()
}
