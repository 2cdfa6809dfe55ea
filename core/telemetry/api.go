package telemetry

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	maxAPIs     = 128 // Kafka has used 93 keys so far
	maxVersions = 32
	maxErrors   = 192 // error codes from -1 on
)

// API counts the requests of one API key. Get it from Metrics.API.
type API struct {
	// RequestBytes and ResponseBytes count whole frames.
	RequestBytes, ResponseBytes Counter

	key      int16
	versions [maxVersions]Counter
	errors   [maxErrors]Counter
	duration prometheus.Observer
	wait     prometheus.Observer
}

type apiTable struct {
	byKey          [maxAPIs + 1]atomic.Pointer[API] // the last is for keys out of range
	mu             sync.Mutex
	duration, wait *prometheus.HistogramVec
}

// unknownAPI is what kmsg.NameForKey calls keys that it does not know.
const unknownAPI = "Unknown"

// API is the handle for an API key; keys that Kafka does not have share one. It is made at the first call and is the same
// ever after; a call costs an atomic load.
func (m *Metrics) API(key int16) *API {
	i := int(key)
	if i < 0 || i >= maxAPIs {
		i = maxAPIs
	}
	if a := m.apis.byKey[i].Load(); a != nil {
		return a
	}
	m.apis.mu.Lock()
	defer m.apis.mu.Unlock()
	if a := m.apis.byKey[i].Load(); a != nil {
		return a
	}
	if kmsg.NameForKey(int16(i)) == unknownAPI {
		if a := m.apis.byKey[maxAPIs].Load(); a != nil {
			return a
		}
		i = maxAPIs
	}
	a := &API{key: int16(i)}
	a.duration, a.wait = m.apis.duration.WithLabelValues(a.name()), m.apis.wait.WithLabelValues(a.name())
	m.apis.byKey[i].Store(a)
	return a
}

func (a *API) name() string {
	if a.key == maxAPIs {
		return unknownAPI
	}
	return kmsg.NameForKey(a.key)
}

// Served counts a request that was answered, and how long that took.
func (a *API) Served(version int16, took time.Duration) {
	a.versions[max(0, min(int(version), maxVersions-1))].Inc()
	a.duration.Observe(took.Seconds())
}

// Waited tells how long a request waited for replicas or for data.
func (a *API) Waited(d time.Duration) { a.wait.Observe(d.Seconds()) }

// Error counts an error code in an answer. Code 0 is no error and not counted.
func (a *API) Error(code int16) {
	if code != 0 {
		a.errors[max(0, min(int(code)+1, maxErrors-1))].Inc()
	}
}

func (m *Metrics) collectAPIs(e emit) {
	f := &m.families
	for i := range m.apis.byKey {
		a := m.apis.byKey[i].Load()
		if a == nil {
			continue
		}
		name := a.name()
		for v := range a.versions {
			if n := a.versions[v].Value(); n > 0 {
				e.count(f.requests, n, name, strconv.Itoa(v))
			}
		}
		for c := range a.errors {
			if n := a.errors[c].Value(); n > 0 {
				e.count(f.requestErrors, n, name, errorName(int16(c-1)))
			}
		}
		e.count(f.requestBytes, a.RequestBytes.Value(), name)
		e.count(f.responseBytes, a.ResponseBytes.Value(), name)
	}
}

// errorName is Kafka's name of an error code.
func errorName(code int16) string {
	if e := kerr.TypedErrorForCode(code); e != nil && e.Code == code {
		return e.Message
	}
	return strconv.Itoa(int(code))
}
