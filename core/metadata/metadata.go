// Package metadata is what a broker knows of its cluster: live brokers, topics,
// leaders. The controller tells it through UpdateMetadata requests; everybody else
// reads an immutable Image.
package metadata

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/core"
)

// NoLeader is the leader of a partition without one.
const NoLeader int32 = -1

// LeaderDuringDelete is the leader of a partition whose topic is being deleted, as
// in Kafka's UpdateMetadata.
const LeaderDuringDelete int32 = -2

// Endpoint is where a broker listens.
type Endpoint struct {
	Listener string // listener name
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
	Host     string
	Port     int32
}

// Broker is a live broker.
type Broker struct {
	ID        int32
	Epoch     int64 // czxid of its registration
	Rack      string
	Endpoints []Endpoint
}

// Endpoint finds the broker's endpoint of a listener name.
func (b *Broker) Endpoint(listener string) (Endpoint, bool) {
	for _, e := range b.Endpoints {
		if e.Listener == listener {
			return e, true
		}
	}
	return Endpoint{}, false
}

// Partition is the state of a partition as the controller decided it.
type Partition struct {
	Leader         int32 // NoLeader when there is none
	LeaderEpoch    int32
	PartitionEpoch int32 // version of the partition's state; grows with each change of leader or ISR
	Replicas       []int32
	ISR            []int32
	Offline        []int32 // replicas on dead brokers or failed disks
}

// Topic is a topic with its partitions, indexed by number.
type Topic struct {
	Name       string
	ID         core.TopicID // zero when the topic has none
	Partitions []Partition
}

// Image is one state of the cluster. It is immutable: nobody may change what its
// methods return.
type Image struct {
	ClusterID       string
	ControllerID    int32 // -1 when unknown
	ControllerEpoch int32
	brokers         map[int32]*Broker
	topics          map[string]*Topic
	ids             map[core.TopicID]*Topic
}

// NewImage makes an image; it takes ownership of the maps' contents.
func NewImage(clusterID string, controllerID, controllerEpoch int32, brokers []*Broker, topics []*Topic) *Image {
	im := &Image{
		ClusterID: clusterID, ControllerID: controllerID, ControllerEpoch: controllerEpoch,
		brokers: make(map[int32]*Broker, len(brokers)),
		topics:  make(map[string]*Topic, len(topics)),
		ids:     make(map[core.TopicID]*Topic, len(topics)),
	}
	for _, b := range brokers {
		im.brokers[b.ID] = b
	}
	for _, t := range topics {
		im.topics[t.Name] = t
		if !t.ID.IsZero() {
			im.ids[t.ID] = t
		}
	}
	return im
}

// Broker finds a live broker.
func (im *Image) Broker(id int32) (*Broker, bool) { b, ok := im.brokers[id]; return b, ok }

// Brokers lists the live brokers by id.
func (im *Image) Brokers() []*Broker {
	out := slices.Collect(maps.Values(im.brokers))
	slices.SortFunc(out, func(a, b *Broker) int { return int(a.ID) - int(b.ID) })
	return out
}

// Topic finds a topic by name. A name held in a byte slice may be converted in the
// call without an allocation.
func (im *Image) Topic(name string) (*Topic, bool) { t, ok := im.topics[name]; return t, ok }

// TopicByID finds a topic by id.
func (im *Image) TopicByID(id core.TopicID) (*Topic, bool) { t, ok := im.ids[id]; return t, ok }

// Topics lists the topics by name.
func (im *Image) Topics() []*Topic {
	names := slices.Sorted(maps.Keys(im.topics))
	out := make([]*Topic, len(names))
	for i, n := range names {
		out[i] = im.topics[n]
	}
	return out
}

// Gone lists the topics of this image that a later one has no more, or of which it
// has another one under the same name.
func (im *Image) Gone(later *Image) []string {
	var gone []string
	for name, t := range im.topics {
		if now, ok := later.topics[name]; !ok || !t.ID.IsZero() && now.ID != t.ID {
			gone = append(gone, name)
		}
	}
	return gone
}

// NumTopics counts the topics.
func (im *Image) NumTopics() int { return len(im.topics) }

// With returns an image in which topics replace those of the same name; a topic
// without partitions is left out. brokers, unless nil, replaces the live brokers.
func (im *Image) With(controllerID, controllerEpoch int32, brokers []*Broker, topics []*Topic) *Image {
	next := &Image{
		ClusterID: im.ClusterID, ControllerID: controllerID, ControllerEpoch: controllerEpoch,
		brokers: im.brokers, topics: im.topics, ids: im.ids,
	}
	if brokers != nil {
		next.brokers = make(map[int32]*Broker, len(brokers))
		for _, b := range brokers {
			next.brokers[b.ID] = b
		}
	}
	if len(topics) > 0 {
		next.topics, next.ids = maps.Clone(im.topics), maps.Clone(im.ids)
		for _, t := range topics {
			if old, ok := next.topics[t.Name]; ok {
				delete(next.topics, t.Name)
				delete(next.ids, old.ID)
			}
			if len(t.Partitions) == 0 {
				continue
			}
			next.topics[t.Name] = t
			if !t.ID.IsZero() {
				next.ids[t.ID] = t
			}
		}
	}
	return next
}

// Cache holds the newest image. Safe for concurrent use; reading costs an atomic
// load.
type Cache struct {
	current atomic.Pointer[Image]

	mu      sync.Mutex // orders Publish
	changed chan struct{}
}

// NewCache starts with an empty image.
func NewCache(clusterID string) *Cache {
	c := &Cache{changed: make(chan struct{})}
	c.current.Store(NewImage(clusterID, -1, 0, nil, nil))
	return c
}

// Current is the newest image.
func (c *Cache) Current() *Image { return c.current.Load() }

// Changed returns a channel that is closed at the next change. Take it before
// looking at Current, so that no change is missed.
func (c *Cache) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Update replaces the image by what change makes of it and wakes those who wait.
// change must not call the cache.
func (c *Cache) Update(change func(*Image) *Image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.Store(change(c.current.Load()))
	close(c.changed)
	c.changed = make(chan struct{})
}
