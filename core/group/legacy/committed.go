package legacy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/tree"
)

// Committed collects what groups have in the tree for topics, by topic and group. A
// group is there when it has an offset for any partition of the topic.
func (o *Offsets) Committed(ctx context.Context, topics []string) (map[string]replica.GroupOffsets, error) {
	session, err := o.sessions(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	groups, err := children(ctx, session, tree.ConsumersPath)
	if err != nil {
		return nil, err
	}
	by := map[string]replica.GroupOffsets{}
	for _, group := range groups {
		for _, topic := range topics {
			offsets, err := ofTopic(ctx, session, tree.ConsumersPath+"/"+group+"/offsets/"+topic)
			if err != nil {
				return nil, err
			}
			if len(offsets) == 0 {
				continue
			}
			if by[topic] == nil {
				by[topic] = replica.GroupOffsets{}
			}
			by[topic][group] = offsets
		}
	}
	return by, nil
}

// ofTopic reads the offsets below a topic's node, by partition.
func ofTopic(ctx context.Context, session core.CoordinatorSession, path string) (map[int32]int64, error) {
	partitions, err := children(ctx, session, path)
	if err != nil || len(partitions) == 0 {
		return nil, err
	}
	offsets := make(map[int32]int64, len(partitions))
	for _, name := range partitions {
		node, err := session.Get(ctx, path+"/"+name)
		if errors.Is(err, core.ErrNotFound) {
			continue // just deleted
		}
		if err != nil {
			return nil, unavailable(fmt.Errorf("read %s/%s: %w", path, name, err))
		}
		partition, errP := strconv.ParseInt(name, 10, 32)
		offset, errO := strconv.ParseInt(strings.TrimSpace(string(node.Data)), 10, 64)
		if err := errors.Join(errP, errO); err != nil {
			return nil, fmt.Errorf("the node %s/%s does not hold an offset: %w", path, name, err)
		}
		offsets[int32(partition)] = offset
	}
	return offsets, nil
}

// children lists those of a node, none when it is not there.
func children(ctx context.Context, session core.CoordinatorSession, path string) ([]string, error) {
	names, _, err := session.Children(ctx, path)
	if err != nil && !errors.Is(err, core.ErrNotFound) {
		return nil, unavailable(fmt.Errorf("list %s: %w", path, err))
	}
	return names, nil
}
