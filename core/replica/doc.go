// Package replica runs the partitions that this broker hosts: it validates and
// appends, keeps the high watermark, the ISR, leader epochs and producer state,
// and wakes those who wait. One Partition is one replica; the Manager has them all
// and does as the controller says.
//
// # How it works
//
// A request finds its partition with [Manager.Leader]: an atomic load of an
// immutable table. Append validates a batch before it takes the partition's write
// lock; under it the batch gets its offsets, is held against the producer state and
// goes to the log. Fetch takes no lock. A second, small lock guards what moves the
// high watermark: followers, waits, watchers; it is never held during I/O nor while
// a callback runs. The order is: Manager.admin, write, mu.
//
// What a partition knows beside its log, it can find again in the log: leader
// epochs and producer state are kept in blobs in Kafka's formats, and what is
// missing or unreadable is read from the batches. High watermarks, log starts and
// recovery points are in the storage's checkpoints.
//
// An idle partition has no goroutine. Flushes that somebody waits for run in a
// goroutine of their own that ends when nothing more is to be flushed.
package replica
