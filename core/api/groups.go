package api

import (
	"context"
	"net"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group"
)

// Groups is the coordinator of consumer groups in each of its roles.
type Groups struct {
	Classic group.Classic
	// Consumer may be nil: the protocol of KIP-848 is then answered with
	// UNSUPPORTED_VERSION, as by a Kafka where it is switched off.
	Consumer group.Consumer
	Offsets  group.Offsets
	Admin    group.Admin
	Locator  group.Locator
	// Tree has the offsets of consumers that keep them in the coordination tree.
	Tree TreeOffsets
}

// TreeOffsets are committed offsets below /consumers in the coordination tree, where
// the consumers before Kafka 0.8.2 keep them, and OffsetCommit and OffsetFetch of
// version 0. Safe for concurrent use; errors are for clients, core.KafkaCode
// understands them.
type TreeOffsets interface {
	// Commit is durable when it returns nil.
	Commit(ctx context.Context, group string, tp core.TopicPartition, offset int64) error
	// Fetch answers ok false where nothing is committed.
	Fetch(ctx context.Context, group string, tp core.TopicPartition) (offset int64, ok bool, err error)
}

// caller is the client as groups show it.
func (c *call) caller() group.Caller {
	host := ""
	if a := c.peer.RemoteAddr; a != nil {
		host = a.String()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return group.Caller{ClientID: string(c.header.clientID), ClientHost: "/" + host}
}

// groupOperations are those that the client may do, out of all that groups have.
func (c *call) groupOperations(ctx context.Context, name string) int32 {
	return c.operations(ctx, GroupResource, name, OpRead, OpDelete, OpDescribe)
}
