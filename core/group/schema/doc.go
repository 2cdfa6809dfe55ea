// Package schema is the records of __consumer_offsets: what committed offsets and
// groups look like in the log, byte for byte as Kafka writes them, so that Kafka's
// tools read what Millrace wrote and the other way round.
//
// The key of a record begins with its Type; a value begins with its version. A
// record without a value is a tombstone: what the key names is gone. The schemas are
// those of Kafka 4.2 (group-coordinator/src/main/resources/common/message), which
// reads all that earlier releases wrote; docs/format/consumer-offsets.md draws them.
//
// Records are plain data: not safe for concurrent use while they are changed, and
// they share nothing with the bytes they were decoded from.
package schema
