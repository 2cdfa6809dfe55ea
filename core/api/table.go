package api

// table lists every key that is served. ApiVersions advertises exactly these.
func (s *Server) table() []endpoint {
	return []endpoint{
		s.produce(),
		s.fetch(),
		s.listOffsets(),
		s.metadata(),
		s.findCoordinator(),
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
		s.describeLogDirs(),
	}
}
