package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// unknown is the message for a name that nobody knows.
func (t *Table) unknown(name string) string {
	if near, ok := t.nearest(name); ok {
		return fmt.Sprintf("unknown setting %s; did you mean %s?", name, near)
	}
	if _, ok := t.topic[name]; ok {
		return fmt.Sprintf("unknown setting %s: it belongs to topics%s", name, t.brokerNameOf(name))
	}
	return fmt.Sprintf("unknown setting %s (docs/configuration.md has the list)", name)
}

// brokerNameOf is advice for people who give a topic setting to a broker.
func (t *Table) brokerNameOf(topic string) string {
	if s := t.topic[topic]; len(s.Synonyms) > 0 {
		return "; for a default of all topics use " + s.Synonyms[0].Name
	}
	return ""
}

// nearest is the known name that takes the fewest changes, if they are few.
func (t *Table) nearest(name string) (string, bool) {
	if _, ok := t.topic[name]; ok {
		return "", false
	}
	prefix := ""
	if rest, ok := strings.CutPrefix(name, listenerPrefix); ok {
		if listener, setting, ok := strings.Cut(rest, "."); ok {
			prefix, name = listenerPrefix+listener+".", setting
		}
	}
	best, bestDistance := "", max(2, len(name)/4)+1
	for _, candidate := range slices.Sorted(maps.Keys(t.broker)) {
		if s := t.broker[candidate]; s.Internal || s.DynamicOnly {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(candidate), bestDistance); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return prefix + best, best != ""
}

// distance is the number of letters to insert, delete, change or swap with their
// neighbour to get from a to b; limit when it is not less than that.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return min(prev[len(b)], limit)
}

// warnings name the settings that are accepted and do nothing.
func (t *Table) warnings(given map[string]given) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		g := given[name]
		s, ok := t.Resolve(name)
		switch {
		case !ok || s.Status == Used:
		case s.Status == Obsolete:
			out = append(out, fmt.Sprintf("%s: %s is of an old Kafka release and ignored: %s", g.origin, name, t.advice[name]))
		case protects(s.Name):
			out = append(out, fmt.Sprintf("%s: %s is a security setting of Kafka that this version of Millrace does NOT enforce", g.origin, name))
		case strings.HasPrefix(s.Name, listenerPrefix):
			hint := ""
			if near, ok := t.nearest(name); ok {
				hint = "; did you mean " + near + "?"
			}
			out = append(out, fmt.Sprintf("%s: %s is not a setting that a listener has; ignored%s", g.origin, name, hint))
		default:
			out = append(out, fmt.Sprintf("%s: %s is a setting of Kafka that Millrace has no use for; ignored", g.origin, name))
		}
	}
	return out
}

// protects reports whether people who give the setting rely on it to keep others
// out.
func protects(name string) bool {
	switch name {
	case "authorizer.class.name", "super.users", "allow.everyone.if.no.acl.found", "principal.builder.class",
		"security.providers", "connections.max.reauth.ms", "client.quota.callback.class":
		return true
	}
	return strings.HasPrefix(name, "sasl.") || strings.HasPrefix(name, "ssl.") ||
		strings.HasPrefix(name, "delegation.token.") || strings.HasPrefix(name, "authorizer.")
}
