// Package api serves Kafka's protocol: one file for each API key, which decodes a
// request, authorises it, calls the room that knows, and encodes the answer.
//
// Two messages are hot and have a path of their own that never copies record
// bytes: Produce requests and Fetch responses. Everything else goes through kmsg.
package api
