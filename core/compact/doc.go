// Package compact compacts a log: of the records with one key it keeps the newest,
// as Kafka's LogCleaner does. It works on any core.Log that is a core.Replacer, and
// knows nothing of leaders and replicas.
//
// A round of a log has two passes. The first reads the dirty part, what came since
// the last round, and notes the newest offset of each key in a table of fixed size:
// a hash of 128 bits and an offset, 24 bytes for each key. The second reads the log
// from its start to the end of what the table covers, and writes each segment, or
// several that have become small, anew without the records that a newer one
// supersedes. What does not fit into the table is left to the next round.
//
// Records keep their offsets, and batches their base and last offset, sequence
// numbers, leader epoch, codec and kind of timestamp. A batch without records goes,
// unless it is the last one of a producer that is still known or the last one of the
// round: then its header stays. A record without a value, a tombstone, is kept for
// delete.retention.ms after the first round that has seen it, which sets the delete
// horizon of its batch (KIP-534); the marker of a transaction of which no batch is
// left likewise. Records of aborted transactions go.
//
// Messages of magic 0 and 1 (decision 2) are treated likewise, in their own format. A
// wrapper that has lost messages has the others, and the offset of the last; one that has
// lost none is left as it is. Their tombstones go by the age of segments: see
// oldTombstones. Where the last offset of the round would go, an empty batch of magic 2
// keeps its place.
//
// Nothing at or above the last stable offset is looked at, nor the active segment,
// nor what is younger than min.compaction.lag.ms.
package compact
