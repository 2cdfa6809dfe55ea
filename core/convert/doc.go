// Package convert turns batches into the messages of magic 0 and 1 while they are
// sent, for clients that know nothing newer (KIP-283): Fetch before version 4.
//
// The answer to such a fetch has to say how long it is before anything of it is
// converted. As in Kafka, the first batch is converted at once, and the records are
// said to be as long as the batches in the log or as that first one, whichever is
// more. The rest is converted as the socket takes it, one batch at a time; what does
// not fit is cut off, and what is missing is filled with the beginning of a message
// that claims to be longer than the answer. Clients of that time take both for a
// message that did not arrive whole, and ask for it again.
//
// Converted batches are kept in a cache, because several old consumers of a topic,
// or one that is slow and fetches in small pieces, want the same ones again.
package convert
