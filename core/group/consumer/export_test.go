package consumer

import (
	"fmt"
	"strings"
)

// Dump is all that a load has to bring back, for tests to compare.
func (g *Group) Dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d of topics %d, of the target %d\n", g.epoch, g.hash, g.targetEpoch)
	for _, id := range sortedKeys(g.members) {
		m := g.members[id]
		fmt.Fprintf(&b, "%s: epoch %d after %d, state %d, assigned %v, pending %v, target %v, instance %q, topics %v, regex %q, classic %t\n",
			m.id, m.epoch, m.previous, m.state, m.assigned, m.pending, g.target[id], m.instance(), m.meta.SubscribedTopicNames, m.regex(), m.classic())
	}
	fmt.Fprintf(&b, "%d targets, static %v, owners %v, regexes %v\n", len(g.target), g.static, g.owners, g.regexes)
	return b.String()
}
