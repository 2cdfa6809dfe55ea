// Package core defines what the parts of a Millrace broker promise each other.
//
// A broker is made of six replaceable seams, one file each: [Storage] keeps the
// logs, [Transport] carries frames, [Coordinator] is the small tree that the
// cluster shares, [Partitioner] chooses partitions, [Compressor] implements a
// codec and [Retention] decides what may be deleted. An implementation is
// described by a [Factory] and picked by name from the settings.
//
// The package imports the standard library and core/record, nothing else, so
// that an implementation depends on the contract alone. What Kafka's rules ask of
// a partition (high watermark, producer state, leader epochs, ...) is not here:
// it lives in core/replica, on top of a Log, so that the author of a storage
// never has to get it right.
//
// # Conventions
//
// Offsets count records and are absolute. Positions and sizes are in bytes.
// Times on the wire are milliseconds since the Unix epoch (int64); -1 means "no
// timestamp". Every exported method may be called from several goroutines at once
// unless its doc says otherwise. A byte slice given to a call is borrowed until
// the call returns; a byte slice returned from a call belongs to the caller,
// unless the doc says otherwise. A context ends waiting, it never undoes work.
package core
