// Package api serves Kafka's protocol: one file for each API key, which decodes a
// request, authorises it, calls the room that knows, and encodes the answer.
//
// Two messages are hot and have a path of their own that never copies record bytes
// and, in a steady state, allocates nothing: Produce (produce.go, produce_state.go,
// produce_reply.go) and Fetch (fetch.go and its neighbours). Everything else goes
// through kmsg.
//
// To add a key: write NAME.go with a method of Server that returns an endpoint, by
// plain unless the key is hot, and add it to table.go. plain wants the layout of the
// request, field by field with the versions that have it, because kmsg's decoders
// must not see a frame that lies about its lengths (layout.go); a test holds every
// layout against kmsg, and the fuzz target serves every key in the table. Handlers
// answer errors in the response and note them (call.note); an error that they return
// closes the connection.
package api
