package mmap

import "sync"

// positions remembers where batches begin: where the last appends ended, which is
// where consumers that follow and high watermarks point, and where the last reads
// ended, which is where their consumers go on.
type positions struct {
	mu       sync.Mutex
	epoch    uint64 // of the log; what was learnt in another one is worthless
	appended [32]position
	read     [32]position
	na, nr   int
}

// position says that the batch with the offset, or the next one where the offset
// is in a gap, begins at pos of the segment at base; or will, at the end.
type position struct{ base, offset, pos int64 }

// find answers the position of offset in the segment at base.
func (p *positions) find(base, offset int64) (pos int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.read[:min(p.nr, len(p.read))] {
		if m := &p.read[i]; m.offset == offset && m.base == base {
			return m.pos, true
		}
	}
	// The latest are the likeliest.
	for i := p.na - 1; i >= 0 && i >= p.na-len(p.appended); i-- {
		if m := &p.appended[i%len(p.appended)]; m.offset == offset && m.base == base {
			return m.pos, true
		}
	}
	return 0, false
}

// afterAppend is called by the writer, which knows that the epoch is its own.
func (p *positions) afterAppend(m position) {
	p.mu.Lock()
	p.appended[p.na%len(p.appended)] = m
	p.na++
	p.mu.Unlock()
}

// afterRead remembers where a read ended, unless the log was cut meanwhile.
func (p *positions) afterRead(epoch uint64, m position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if epoch != p.epoch {
		return
	}
	for i := range p.read[:min(p.nr, len(p.read))] {
		if p.read[i] == m {
			return
		}
	}
	p.read[p.nr%len(p.read)] = m
	p.nr++
}

// forget drops everything: the log was cut and offsets may come again elsewhere.
func (p *positions) forget(epoch uint64) {
	p.mu.Lock()
	p.epoch, p.na, p.nr = epoch, 0, 0
	p.mu.Unlock()
}
