// Package telemetry is how a broker is watched: its log ([NewLogger]), its metrics
// ([Metrics]) and the HTTP pages that show them and its health ([Handler],
// [Server]).
//
// Metrics has its own registry; nothing is registered globally, so that several
// brokers may run in one process. What happens on a hot path is counted through
// handles that are resolved once ([Metrics.API], [Metrics.Topic]): an increment is
// an atomic addition and allocates nothing. What is a state, such as the number of
// partitions, is asked from its owner when somebody looks ([Metrics.Attach]).
//
// docs/metrics.md lists every metric with the Kafka MBean it answers to; it is
// generated from the code.
package telemetry
