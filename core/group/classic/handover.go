package classic

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Member is a member as it is handed over to a group of another protocol. Its byte
// slices are the group's: they are never changed.
type Member struct {
	ID                 string
	InstanceID         *string
	Caller             Caller
	Session, Rebalance time.Duration
	// Protocols are those that the member supports, the preferred one first.
	Protocols  []kmsg.JoinGroupRequestProtocol
	Assignment []byte
}

// Protocol is the selected protocol, empty when none is.
func (g *Group) Protocol() string {
	if g.protocol == nil {
		return ""
	}
	return *g.protocol
}

// Members are the members in the order in which they came, those with a pending id left
// out.
func (g *Group) Members() []Member {
	all := make([]Member, 0, len(g.order))
	for _, m := range g.order {
		h := Member{
			ID: m.id, InstanceID: m.instance, Caller: m.caller, Session: m.session, Rebalance: m.rebalance, Assignment: m.assignment,
		}
		for _, p := range m.protocols {
			h.Protocols = append(h.Protocols, kmsg.JoinGroupRequestProtocol{Name: p.name, Metadata: p.metadata})
		}
		all = append(all, h)
	}
	return all
}
