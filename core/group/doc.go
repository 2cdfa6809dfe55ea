// Package group coordinates consumer groups and keeps their committed offsets.
//
// A group belongs to one partition of __consumer_offsets, chosen by the hash of its
// id as in Kafka; the broker that leads that partition coordinates the group. The
// state of all groups of one partition is a shard: it is loaded from the partition
// when this broker becomes its leader and dropped when it ceases to be. Every change
// is first appended to the partition and then applied, under the shard's lock; the
// client is answered when the high watermark has passed it.
package group
