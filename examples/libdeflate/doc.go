// Command libdeflate is a plugin: Kafka's gzip by libdeflate (Debian's libdeflate-dev), which
// compresses smaller than the built-in, not always faster (BenchmarkCompress), and which all read:
//
//	plugin.libdeflate.path=/opt/millrace/plugins/libdeflate
//	compression.implementation.gzip=libdeflate
//	compression.libdeflate.level=6
//
// A broker compresses what a topic with compression.type=gzip is sent in another codec.
// libdeflate has levels 1 to 12 and Kafka's compression.gzip.level goes from 1 to 9: a level
// that is asked for from 1 to 8 is libdeflate's, and 9, the smallest, is its 12.
// compression.libdeflate.level, 1 to 12, is for topics without a level.
//
// It links with C, so it is built with the tag libdeflate alone:
//
//	apt-get install gcc libdeflate-dev
//	CGO_ENABLED=1 go build -tags libdeflate -o /opt/millrace/plugins/ ./examples/libdeflate
package main
