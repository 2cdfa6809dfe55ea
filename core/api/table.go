package api

// table lists every key that is served. ApiVersions advertises exactly these.
func (s *Server) table() []endpoint {
	return []endpoint{
		apiVersions(),
	}
}
