package consumer

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/metadata"
)

// Found is what regular expressions match among the topics of an image. Immutable. A
// search takes time in proportion to the length of the regular expression and of all
// names together, so that it is made before the lock of the group, which others wait for,
// is taken: see Group.Searches. (Kafka's coordinator has a thread for it.)
type Found struct {
	image  *metadata.Image
	topics map[string][]string
}

// Find searches the topics of an image for those that each of the regular expressions
// matches. Ones that are not understood are left out.
func Find(image *metadata.Image, regexes []string) *Found {
	f := &Found{image: image, topics: make(map[string][]string, len(regexes))}
	for _, regex := range regexes {
		if p, err := pattern(regex); err == nil {
			f.topics[regex] = matching(p, image)
		}
	}
	return f
}

// of is what was found for a regular expression, if it was searched for in that image.
func (f *Found) of(regex string, image *metadata.Image) ([]string, bool) {
	if f == nil || f.image != image {
		return nil, false
	}
	topics, ok := f.topics[regex]
	return topics, ok
}

// Searches are the regular expressions for whose topics Heartbeat would search with this
// request: those to Find, and Offer.
func (g *Group) Searches(now time.Time, req *kmsg.ConsumerGroupHeartbeatRequest) []string {
	list := SearchesOf(req)
	if len(list) > 0 {
		if _, ok := g.regexes[list[0]]; ok {
			list = nil
		}
	}
	if len(g.regexes) > 0 && req.MemberEpoch >= 0 && g.look.stale(now, g.env.Image(), g.settings.RegexRefresh) {
		list = append(list, sortedKeys(g.regexes)...)
	}
	return list
}

// SearchesOf is Searches of a group that there is not yet.
func SearchesOf(req *kmsg.ConsumerGroupHeartbeatRequest) []string {
	if r := req.SubscribedTopicRegex; r != nil && *r != "" && len(*r) <= math.MaxInt16 && req.MemberEpoch >= 0 {
		return []string{*r}
	}
	return nil
}

// Offer gives the next Heartbeat what was found for it. What it wants and has not been
// offered it searches for itself.
func (g *Group) Offer(f *Found) { g.found = f }

// Searched is how often the group has searched for what it was not offered, while others
// waited for the lock.
func (g *Group) Searched() int { return g.searched }
