package api

// table lists every key that is served. ApiVersions advertises exactly these.
func (s *Server) table() []endpoint {
	return []endpoint{
		s.produce(),
		s.fetch(),
		s.listOffsets(),
		s.metadata(),
		s.offsetCommit(),
		s.offsetFetch(),
		s.findCoordinator(),
		s.joinGroup(),
		s.heartbeat(),
		s.leaveGroup(),
		s.syncGroup(),
		s.describeGroups(),
		s.listGroups(),
		s.deleteGroups(),
		s.offsetDelete(),
		s.consumerGroupHeartbeat(),
		s.consumerGroupDescribe(),
		apiVersions(),
		s.initProducerID(),
		s.offsetForLeaderEpoch(),
		s.describeProducers(),
		s.createTopics(),
		s.deleteTopics(),
		s.createPartitions(),
		s.deleteRecords(),
		s.describeConfigs(),
		s.alterConfigs(),
		s.incrementalAlterConfigs(),
		s.describeCluster(),
		s.describeTopicPartitions(),
		s.alterReplicaLogDirs(),
		s.describeLogDirs(),
	}
}
