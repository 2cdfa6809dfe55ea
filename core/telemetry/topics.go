package telemetry

import "sync"

// OtherTopics is the value of the label topic for topics beyond the bound.
const OtherTopics = "__other"

// Topic counts what happens to one topic. Get it from Metrics.Topic and keep it.
type Topic struct {
	RecordsIn, BytesIn, BytesOut, BytesRejected Counter
	// ProduceRequests, FetchRequests and those that failed count partitions of
	// requests.
	ProduceRequests, FetchRequests, ProduceFailed, FetchFailed Counter
	// ConvertedIn counts batches that were rewritten on their way to the log, and
	// ConvertedOut those that were on their way to a consumer.
	ConvertedIn, ConvertedOut Counter
	InvalidBatches            Counter
	// MisplacedRecords are those that partitioner.guard found elsewhere than where their
	// topic's partitioner puts them.
	MisplacedRecords Counter
	RetentionBytes   Counter
}

type topicTable struct {
	mu     sync.RWMutex
	max    int
	byName map[string]*Topic
	other  Topic
}

// Topic is the handle for a topic: its own, or one shared by all topics beyond the
// bound. The answer for a name may become its own after ForgetTopic of another one.
func (m *Metrics) Topic(name string) *Topic {
	t := &m.topics
	t.mu.RLock()
	topic, ok := t.byName[name]
	t.mu.RUnlock()
	if ok {
		return topic
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if topic, ok := t.byName[name]; ok {
		return topic
	}
	if len(t.byName) >= t.max {
		return &t.other
	}
	topic = &Topic{}
	t.byName[name] = topic
	return topic
}

// ForgetTopic drops the metrics of a topic that was deleted. Handles that are still
// held count nowhere.
func (m *Metrics) ForgetTopic(name string) {
	m.topics.mu.Lock()
	defer m.topics.mu.Unlock()
	delete(m.topics.byName, name)
}

func (m *Metrics) collectTopics(e emit) {
	t := &m.topics
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name, topic := range t.byName {
		m.collectTopic(e, name, topic)
	}
	if len(t.byName) >= t.max {
		m.collectTopic(e, OtherTopics, &t.other)
	}
}

func (m *Metrics) collectTopic(e emit, name string, t *Topic) {
	f := &m.families
	e.count(f.recordsIn, t.RecordsIn.Value(), name)
	e.count(f.bytesIn, t.BytesIn.Value(), name)
	e.count(f.bytesOut, t.BytesOut.Value(), name)
	e.count(f.bytesRejected, t.BytesRejected.Value(), name)
	e.count(f.produceRequests, t.ProduceRequests.Value(), name)
	e.count(f.fetchRequests, t.FetchRequests.Value(), name)
	e.count(f.produceFailed, t.ProduceFailed.Value(), name)
	e.count(f.fetchFailed, t.FetchFailed.Value(), name)
	e.count(f.conversions, t.ConvertedIn.Value(), name, "in")
	e.count(f.conversions, t.ConvertedOut.Value(), name, "out")
	e.count(f.invalidRecords, t.InvalidBatches.Value(), name)
	e.count(f.misplaced, t.MisplacedRecords.Value(), name)
	e.count(f.retentionBytes, t.RetentionBytes.Value(), name)
}
