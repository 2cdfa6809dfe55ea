// Package legacy has the offsets that consumers keep in the coordination tree, at
// /consumers/GROUP/offsets/TOPIC/PARTITION and as text: those of Kafka's consumers before
// 0.8.2, which write them there by themselves, and those that OffsetCommit and
// OffsetFetch of version 0 ask a broker for. Either sees what the other has written.
package legacy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// Sessions gives the session with which the tree is reached now.
type Sessions func(ctx context.Context) (core.CoordinatorSession, error)

// Offsets are the offsets in the tree. They never expire. Safe for concurrent use. What
// fails because the tree is out of reach is COORDINATOR_NOT_AVAILABLE.
type Offsets struct{ sessions Sessions }

// New makes the offsets of the tree that sessions reach.
func New(sessions Sessions) *Offsets { return &Offsets{sessions} }

// Commit sets an offset. It is durable when Commit returns nil.
func (o *Offsets) Commit(ctx context.Context, group string, tp core.TopicPartition, offset int64) error {
	if err := checkGroup(group); err != nil {
		return err
	}
	session, err := o.sessions(ctx)
	if err != nil {
		return unavailable(err)
	}
	path := tree.ConsumerOffsetPath(group, tp.Topic, tp.Partition)
	data := strconv.AppendInt(nil, offset, 10)
	_, err = session.Commit(ctx, core.Set(path, data, core.AnyVersion))
	if errors.Is(err, core.ErrNotFound) {
		if err = create(ctx, session, path, data); errors.Is(err, core.ErrNodeExists) {
			// Somebody was faster. The commits are in no order, as any two at once.
			_, err = session.Commit(ctx, core.Set(path, data, core.AnyVersion))
		}
	}
	if err != nil {
		return unavailable(fmt.Errorf("set %s: %w", path, err))
	}
	return nil
}

// create makes a node and those above it that are not there.
func create(ctx context.Context, session core.CoordinatorSession, path string, data []byte) error {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if _, err := session.Commit(ctx, core.Create(path[:i], nil)); err != nil && !errors.Is(err, core.ErrNodeExists) {
			return fmt.Errorf("create %s: %w", path[:i], err)
		}
	}
	_, err := session.Commit(ctx, core.Create(path, data))
	return err
}

// Fetch reads an offset; ok is false where there is none.
func (o *Offsets) Fetch(ctx context.Context, group string, tp core.TopicPartition) (offset int64, ok bool, err error) {
	if err := checkGroup(group); err != nil {
		return 0, false, err
	}
	session, err := o.sessions(ctx)
	if err != nil {
		return 0, false, unavailable(err)
	}
	path := tree.ConsumerOffsetPath(group, tp.Topic, tp.Partition)
	node, err := session.Get(ctx, path)
	if errors.Is(err, core.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, unavailable(fmt.Errorf("read %s: %w", path, err))
	}
	offset, err = strconv.ParseInt(strings.TrimSpace(string(node.Data)), 10, 64)
	if err != nil {
		return 0, false, &core.KafkaError{
			Code:    kerr.UnknownServerError.Code,
			Message: fmt.Sprintf("The node %s does not hold an offset.", path), Err: err,
		}
	}
	return offset, true, nil
}

// checkGroup refuses names that are none in the tree, or would lead elsewhere in it.
func checkGroup(group string) error {
	if group == "" || group == "." || group == ".." || strings.ContainsFunc(group, func(r rune) bool {
		return r == '/' || r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0
	}) {
		return core.Failf(kerr.InvalidGroupID.Code, "The group id %.64q cannot be the name of a node in the coordination tree.", group)
	}
	return nil
}

func unavailable(err error) error {
	return &core.KafkaError{
		Code:    kerr.CoordinatorNotAvailable.Code,
		Message: "The coordination tree, which has the offsets of this group, is out of reach; try again.", Err: err,
	}
}
