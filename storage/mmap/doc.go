// Package mmap is the storage on local disks: Kafka's log directory, written
// through mappings where that is cheaper.
//
// # On disk
//
// A directory of log.dirs has one directory for each partition (TOPIC-P), the
// checkpoint files, meta.properties, .lock and, after a clean shutdown,
// .kafka_cleanshutdown. A partition has segments, named by the offset that they
// begin with: a .log of record batches, an .index of (offset, position) and a
// .timeindex of (timestamp, offset), one entry every index.interval.bytes. The
// formats are Kafka's, and Kafka's tools read them.
//
// # Writing
//
// The last segment is active. Its .log is preallocated in growing chunks, its
// indexes in pages, so that an idle partition reserves nothing. An append of up to
// MappedAppendMax bytes is stored through a mapping, a larger one goes by pwrite;
// both land in the page cache, where reads see them. An append becomes visible by
// one atomic store of the new end, so readers never wait for the writer. Closing
// or rolling a segment cuts its files to what they hold.
//
// # Reading
//
// A read finds a position through the mapped index, walks batch headers with
// pread from there, and answers a range of the file that nobody has read: a
// sendfile source. Log bytes are never touched through a mapping, which would
// stall a whole processor on a cold page. What earlier reads and appends have
// taught about positions is remembered, so that a consumer that follows the log
// needs no look-up.
//
// # After a crash
//
// A log whose directory was not shut down cleanly recovers when it is opened:
// from the segment with the recovery point on, batches are checked and the first
// that is not whole ends the log; indexes are built anew. A gap before a segment
// that is marked (see mark) ends it, too: what should be there was lost.
//
// What is taken away stays away: truncations, resets and the cuts of a recovery are
// durable before anything is appended behind them, and the segments that go do so
// before a file is cut. What another process has made is synced before it is
// relied upon. After a failed sync the log is offline, and what lies above the
// recovery point is written anew when it is opened again: the kernel may have
// dropped it. All this supposes that a directory's entries reach the disk in the
// order in which they were made, as journaling file systems have it.
//
// A full disk and a want of descriptors leave the log as it is.
//
// # Locks
//
// Log.mu, held by calls that change the log, comes first, then Storage.mu, then
// dataDir.mu. The place in Log.flushing may be waited for with Log.mu held, never the
// other way round. Log.flushMu, segment.mu, cache.mu and positions.mu are leaves. A
// reader takes no lock but segment.mu and positions.mu, both for a few instructions.
package mmap
