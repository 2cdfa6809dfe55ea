package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// Observer hears of every answered request. Safe for concurrent use; it must not
// block.
type Observer interface {
	// Request is called when the reply has been given to the transport, which still
	// has to send it. start is when the request was read; sizes are frames in bytes,
	// bytesOut 0 where no answer is sent. code is the first error in the response, 0
	// when there is none.
	Request(key kmsg.Key, version int16, start time.Time, bytesIn, bytesOut int, code int16)
}

// observed is what is kept of a request to tell the Observer.
type observed struct {
	observer Observer
	key      kmsg.Key
	version  int16
	start    time.Time
	bytesIn  int
	code     int16
}

// note keeps the first error code.
func (o *observed) note(code int16) {
	if o.code == 0 {
		o.code = code
	}
}

// reply observes and answers the request. r may be nil: no answer.
func (o *observed) reply(w core.ReplyWriter, r *core.Reply) {
	if o.observer != nil {
		n := 0
		if r != nil {
			n = r.Len()
		}
		o.observer.Request(o.key, o.version, o.start, o.bytesIn, n, o.code)
	}
	w.Reply(r)
}
