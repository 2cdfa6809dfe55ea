package config

import (
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

// ListenerConfig is what a transport has to know of a listener, without TLS. A
// value under listener.name.NAME. counts before that of all listeners (KIP-103).
func (s *Snapshot) ListenerConfig(l Listener) core.ListenerConfig {
	n := s.broker.Network
	bound := n.MaxConnections
	if v, ok := s.ForListener(l.Name, "max.connections"); ok {
		// The value was checked when it was given.
		if own, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && own > 0 {
			bound = own
		}
	}
	return core.ListenerConfig{
		Name: l.Name, Address: l.Address(), Protocol: l.Protocol,
		MaxRequestBytes: n.MaxRequestBytes, MaxConnections: bound,
		MaxConnectionsPerAddress: n.MaxConnectionsPerIP, PerAddressOverrides: n.PerIPOverrides,
		IdleTimeout: max(0, n.MaxIdle), SendBuffer: n.SendBuffer, ReceiveBuffer: n.ReceiveBuffer, Backlog: n.Backlog,
	}
}

// ForListener is Get with the value for one listener first:
// listener.name.NAME.SETTING, the name in lower case.
func (s *Snapshot) ForListener(listener, name string) (string, bool) {
	if v, ok := s.Get(listenerPrefix + strings.ToLower(listener) + "." + name); ok {
		return v, true
	}
	return s.Get(name)
}
