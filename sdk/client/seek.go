package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Seek makes the consumer go on at an offset of a partition that it reads: forward or
// back. Messages of the partition that were received already are dropped. In a group
// it is for partitions that the consumer has: call it in the loop over Messages, for
// the partition of the message at hand. With AfterProcessing Close commits the place,
// where nothing was processed since.
func (c *Consumer) Seek(topic string, partition int32, offset int64) {
	c.seek(map[string]map[int32]kgo.EpochOffset{topic: {partition: {Epoch: -1, Offset: offset}}})
}

// SeekTime makes the consumer go on at the first message of a topic's every partition
// that is as old as t or younger, or at the end where there is none. In a group that
// holds for the partitions that the consumer has; see Seek.
func (c *Consumer) SeekTime(ctx context.Context, topic string, t time.Time) error {
	listed, err := kadm.NewClient(c.client).ListOffsetsAfterMilli(ctx, t.UnixMilli(), topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("find what is since %s in topic %s: %w", t.Format(time.RFC3339), topic, closed(err))
	}
	to := map[int32]kgo.EpochOffset{}
	listed.Each(func(o kadm.ListedOffset) { to[o.Partition] = kgo.EpochOffset{Epoch: -1, Offset: o.Offset} })
	c.seek(map[string]map[int32]kgo.EpochOffset{topic: to})
	return nil
}

func (c *Consumer) seek(to map[string]map[int32]kgo.EpochOffset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sought := func(m *Message) bool { _, ok := to[m.Topic][m.Partition]; return ok }
	c.tell() // or it would undo the seek
	c.batch = slices.DeleteFunc(slices.Clone(c.batch), sought)
	if c.current != nil && sought(c.current) {
		c.current = nil
	}
	c.client.SetOffsets(to)
	if c.group == "" || c.commit != AfterProcessing {
		return
	}
	for topic, partitions := range to {
		if c.sought[topic] == nil {
			c.sought[topic] = map[int32]kgo.EpochOffset{}
		}
		maps.Copy(c.sought[topic], partitions)
	}
}

// stillSought are the places of Seek at which the client is: partitions that went to
// another member since are not for this one to commit. The caller may keep the map. c.mu
// is held.
func (c *Consumer) stillSought() map[string]map[int32]kgo.EpochOffset {
	at := c.client.CommittedOffsets() // Seek has made the client take its places for that
	for topic, partitions := range c.sought {
		maps.DeleteFunc(partitions, func(partition int32, o kgo.EpochOffset) bool {
			is, ok := at[topic][partition]
			return !ok || is != o
		})
	}
	maps.DeleteFunc(c.sought, func(_ string, partitions map[int32]kgo.EpochOffset) bool { return len(partitions) == 0 })
	kept := make(map[string]map[int32]kgo.EpochOffset, len(c.sought))
	for topic, partitions := range c.sought {
		kept[topic] = maps.Clone(partitions)
	}
	return kept
}
