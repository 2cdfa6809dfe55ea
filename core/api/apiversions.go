package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// apiVersions serves ApiVersions v0-4: what this broker speaks. It is also the
// answer to a version that is not spoken (KIP-511).
func apiVersions() endpoint {
	return plain(0, 4, kmsg.NewPtrApiVersionsRequest,
		[]field{text().from(3), text().from(3)},
		func(_ context.Context, c *call, req *kmsg.ApiVersionsRequest, resp *kmsg.ApiVersionsResponse) error {
			if c.header.version >= 3 && (!validSoftware(req.ClientSoftwareName) || !validSoftware(req.ClientSoftwareVersion)) {
				resp.ErrorCode = kerr.InvalidRequest.Code
				c.note(resp.ErrorCode)
				return nil
			}
			c.software = req.ClientSoftwareName + "-" + req.ClientSoftwareVersion
			c.server.advertise(resp)
			return nil
		})
}

// advertise lists the served keys.
func (s *Server) advertise(resp *kmsg.ApiVersionsResponse) {
	for i := range s.endpoints {
		e := &s.endpoints[i]
		if e.serve == nil {
			continue
		}
		resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{
			ApiKey: e.key.Int16(), MinVersion: e.min, MaxVersion: e.max,
		})
	}
}

// unsupportedVersion answers an ApiVersions request of an unknown version with a v0
// response, which every client can read; any other key closes the connection, as
// Kafka does.
func (s *Server) unsupportedVersion(ctx context.Context, c *call, e *endpoint, w core.ReplyWriter) error {
	if c.header.key != kmsg.ApiVersions {
		return fmt.Errorf("%s v%d request; v%d to v%d are served: %w",
			c.header.key.Name(), c.header.version, e.min, e.max, errProtocol)
	}
	if err := w.Barrier(ctx); err != nil {
		return err
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	s.advertise(resp)
	h := c.header
	h.version, h.flexible = 0, false
	c.note(resp.ErrorCode)
	c.reply(w, encode(h, resp))
	return nil
}

// validSoftware is Kafka's rule for the names that clients give themselves: letters
// and digits, with dots and dashes in between.
func validSoftware(s string) bool {
	alnum := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return true
}
