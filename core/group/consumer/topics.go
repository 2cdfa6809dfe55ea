package consumer

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

// regexPause is the least time between two searches of all topics for what regular
// expressions match, when topics come and go. A regular expression that is new is
// searched for at once.
const regexPause = time.Second

// names are topics in order, each once.
func names(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// pattern compiles a regular expression in the syntax of RE2, for matches.
func pattern(regex string) (*regexp.Regexp, error) {
	refuse := func(why string) (*regexp.Regexp, error) {
		return nil, core.Failf(kerr.InvalidRegularExpression.Code, "SubscribedTopicRegex `%.256s` is not a valid regular expression: %s.", regex, why)
	}
	if len(regex) > math.MaxInt16 {
		return refuse("it is longer than 32767 bytes, which is what a record has room for")
	}
	p, err := regexp.Compile(regex)
	if err != nil {
		return refuse(err.Error())
	}
	// Anchored it is faster. But not all that stands by itself stands between others: a
	// quotation may be left open (\Q), and brackets be as deep as they may.
	if anchored, err := regexp.Compile(`\A(?:` + regex + `)\z`); err == nil {
		return anchored, nil
	}
	p.Longest()
	return p, nil
}

// matches reports whether a pattern matches a whole name: if it does, that is the longest
// of the matches that begin first.
func matches(p *regexp.Regexp, name string) bool {
	at := p.FindStringIndex(name)
	return at != nil && at[0] == 0 && at[1] == len(name)
}

// look is what the topics were looked up in, and when.
type look struct {
	image    *metadata.Image // for subscriptions by name
	searched *metadata.Image // for those by regular expression
	at       time.Time       // of the search
}

// stale reports whether topics that match regular expressions are to be searched.
func (l *look) stale(now time.Time, image *metadata.Image, refresh time.Duration) bool {
	since := now.Sub(l.at)
	return l.searched == nil || since >= refresh || l.searched != image && since >= regexPause
}

// search finds the topics that a regular expression matches, in order. Topics of the
// broker's own are not among them: clients name those that they want.
func (g *Group) search(regex string, image *metadata.Image) []string {
	if topics, ok := g.found.of(regex, image); ok {
		return topics
	}
	g.searched++
	p, err := pattern(regex)
	if err != nil {
		// It was stored by a coordinator that takes more.
		g.log.Warn("a regular expression of the group is not understood; it matches nothing", "regex", regex, "error", err)
		return nil
	}
	return matching(p, image)
}

// matching are the topics that a pattern matches, in order.
func matching(p *regexp.Regexp, image *metadata.Image) []string {
	var found []string
	for _, t := range image.Topics() {
		if !internal(t.Name) && !t.ID.IsZero() && matches(p, t.Name) {
			found = append(found, t.Name)
		}
	}
	return found
}

// internal reports whether a topic is one of the broker's own.
func internal(topic string) bool { return strings.HasPrefix(topic, "__") }

// topic is a topic that exists and that the group is subscribed to.
type topic struct {
	id         core.TopicID
	partitions int32
}

// subscribed looks up the topics that are named, by members or by what their regular
// expressions have found. Those that do not exist are left out: when they come to be,
// the group's epoch is raised.
func subscribed(members func(func(*member) bool), regexes map[string][]string, image *metadata.Image) map[string]topic {
	all := map[string]topic{}
	seen := map[string]bool{}
	see := func(list []string) {
		for _, name := range list {
			if seen[name] {
				continue
			}
			seen[name] = true
			if t, ok := image.Topic(name); ok && !t.ID.IsZero() && len(t.Partitions) > 0 {
				all[name] = topic{t.ID, int32(len(t.Partitions))}
			}
		}
	}
	for m := range members {
		see(m.meta.SubscribedTopicNames)
		see(regexes[m.regex()])
	}
	return all
}

// hashOf is a hash of topics, never 0 unless there are none. A group whose hash has
// changed needs a new assignment. The value is Millrace's own: a coordinator that
// computes it otherwise raises the epoch once.
func hashOf(topics map[string]topic) int64 {
	if len(topics) == 0 {
		return 0
	}
	h := fnv.New64a()
	var n [4]byte
	for _, name := range sortedKeys(topics) {
		t := topics[name]
		binary.BigEndian.PutUint32(n[:], uint32(len(name)))
		_, _ = h.Write(n[:])
		_, _ = h.Write([]byte(name))
		_, _ = h.Write(t.id[:])
		binary.BigEndian.PutUint32(n[:], uint32(t.partitions))
		_, _ = h.Write(n[:])
	}
	return cmp.Or(int64(h.Sum64()), 1)
}
