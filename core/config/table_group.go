package config

// groupConfigRows are the settings of groups that Kafka has for the consumer protocol
// (KIP-848), with the broker settings that are their defaults. Those of share and of
// streams groups are unknown, as the groups are.
func groupConfigRows() []topicRow {
	return []topicRow{
		{row{groupSession, Int, "45000", Medium, ClusterWide, atLeast(1), "Time after which a member that was not heard of is taken for dead, from `group.consumer.min.session.timeout.ms` to `group.consumer.max.session.timeout.ms`, and more than the heartbeat interval."}, "group.consumer.session.timeout.ms"},
		{row{groupHeartbeat, Int, "5000", Medium, ClusterWide, atLeast(1), "How often members are told to be heard of, from `group.consumer.min.heartbeat.interval.ms` to `group.consumer.max.heartbeat.interval.ms`."}, "group.consumer.heartbeat.interval.ms"},
	}
}
