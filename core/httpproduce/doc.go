// Package httpproduce lets programs without a Kafka client produce over HTTP:
//
//	POST /topics/NAME/records
//
// The topic's partitioner (the setting partitioner) places the records, as a plugin or
// not; without one they go where Kafka's Java client would put them. A record may name
// its partition instead.
//
// Three kinds of bodies are understood, by Content-Type:
//
//	application/json                   {"records":[{"key":"k","value":{"a":1},"headers":[{"key":"h","value":"v"}],"partition":0,"timestamp":1700000000000}]}
//	                                   Strings are their text, null is none, everything else is its JSON.
//	application/vnd.kafka.binary.v2+json  the same, with base64 for keys, values and headers
//	application/octet-stream           one record, its value the body; ?key=TEXT its key
//
// A request has at most http.produce.max.bytes, and 100,000 records and headers together.
// Records of one partition that are more than the topic's max.message.bytes together are
// appended in several batches; when one is refused, those behind it are not tried.
//
// ?acks=all (the default) answers when the replicas in sync have the records, ?acks=1
// when the leader has. The answer has one entry for each record, in order:
//
//	{"records":[{"partition":0,"offset":17},{"error":"MESSAGE_TOO_LARGE","code":10,"message":"..."}]}
//
// Its status is 200 when all records are in the log, 207 when some are, and otherwise
// what the first failure means: see status.
package httpproduce
