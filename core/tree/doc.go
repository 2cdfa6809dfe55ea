// Package tree is the layout of the coordination tree: the paths of Kafka's
// znodes, as of Kafka 3.9 in ZooKeeper mode, and the JSON in them. One path is
// Millrace's own: /config/groups/GROUP, beside /config/topics/TOPIC and in its form.
//
// Writing gives exactly the fields that Kafka writes, with its types (some numbers
// are strings there). Reading is tolerant: unknown fields are ignored, numbers may
// come as strings, and the older versions that Kafka and its tools wrote are
// accepted.
package tree
