package convert

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/millrace/millrace/core"
)

// Partition names what a batch belongs to. A topic that was deleted and made again
// has another id.
type Partition struct {
	Topic     core.TopicID
	Partition int32
}

// key identifies the bytes of a converted batch. A log that was truncated may have
// another batch at the same offset, of a later leader epoch; one that was compacted
// another one with the same epoch, which the checksum tells.
type key struct {
	Partition
	epoch int32
	base  int64
	crc   uint32
	size  int32
	magic int8
}

type entry struct {
	key      key
	messages []byte
}

// entryOverhead is what an entry costs beside its messages, in bytes.
const entryOverhead = 160

// typicalEntry is the size in bytes by which the number of counters is chosen: the
// smaller the entries, the more of them there are to tell apart.
const typicalEntry = 8 << 10

// Cache keeps converted batches up to a number of bytes. It is made when it is first
// used: a broker without old clients has none. Safe for concurrent use.
type Cache struct {
	bytes        int64
	seed         maphash.Seed
	hits, misses atomic.Int64

	// mu is held for reading while the cache is used: it must not be closed meanwhile.
	mu     sync.RWMutex
	cache  *ristretto.Cache[uint64, *entry] // nil before it is needed, and after Close
	closed bool
}

// NewCache makes a cache of so many bytes; 0 is one that keeps nothing.
func NewCache(bytes int64) *Cache { return &Cache{bytes: bytes, seed: maphash.MakeSeed()} }

// CacheStats are counts since the start.
type CacheStats struct{ Hits, Misses int64 }

// Stats tells how often a batch was found and how often it was not.
func (c *Cache) Stats() CacheStats { return CacheStats{c.hits.Load(), c.misses.Load()} }

// Bytes is what the cache holds, by its own account.
func (c *Cache) Bytes() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cache == nil {
		return 0
	}
	return c.cache.MaxCost() - c.cache.RemainingCost()
}

// Wait returns when everything that was offered before is kept or refused.
func (c *Cache) Wait() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cache != nil {
		c.cache.Wait()
	}
}

// Close ends the cache, which keeps nothing from then on. It is safe to call twice.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.cache != nil {
		c.cache.Close()
		c.cache = nil
	}
}

// get finds a converted batch. It is shared: nobody writes to it.
func (c *Cache) get(k *key) ([]byte, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cache != nil {
		if e, ok := c.cache.Get(c.hash(k)); ok && e.key == *k {
			c.hits.Add(1)
			return e.messages, true
		}
	}
	c.misses.Add(1)
	return nil, false
}

// put offers a converted batch, which is the cache's too from then on.
func (c *Cache) put(k *key, messages []byte) {
	if !c.open() {
		return
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cache != nil {
		c.cache.Set(c.hash(k), &entry{*k, messages}, int64(cap(messages))+entryOverhead)
	}
}

// keeps reports whether there is any sense in put for so many bytes.
func (c *Cache) keeps(bytes int) bool { return int64(bytes)+entryOverhead <= c.bytes/4 }

func (c *Cache) hash(k *key) uint64 { return maphash.Comparable(c.seed, *k) }

// open makes the cache when it is first needed; false when there is to be none.
func (c *Cache) open() bool {
	c.mu.RLock()
	done := c.cache != nil || c.closed
	c.mu.RUnlock()
	if done || c.bytes <= 0 {
		return done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cache != nil || c.closed {
		return true
	}
	r, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		NumCounters: max(1000, 10*c.bytes/typicalEntry), MaxCost: c.bytes, BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return false // it refuses settings that make no sense, and these do
	}
	c.cache = r
	return true
}
