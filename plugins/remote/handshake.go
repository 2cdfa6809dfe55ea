package remote

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// Handshake is how a broker and a plugin know that they mean each other. The cookie
// is no secret: it keeps people from running a plugin by hand.
func Handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{
		MagicCookieKey:   "MILLRACE_PLUGIN",
		MagicCookieValue: "b7d0a1f2-millrace-takes-itself-apart",
	}
}

// Version numbers the contract in go-plugin's negotiation: 1 is the package
// millrace.plugin.v0.
const Version = 1

// SetName is the name of the one entry of the sets that go-plugin negotiates.
const SetName = "millrace"

// LifelineEnv names the environment variable with the number of the descriptor that
// ends when the broker does: a stream socket, on which a plugin reads. When there is
// nothing more to read the broker is dead, and the plugin exits.
const LifelineEnv = "MILLRACE_PLUGIN_LIFELINE"

// BrokerEnv names the environment variable with the release of the broker.
const BrokerEnv = "MILLRACE_BROKER_VERSION"

// HostSet is what a broker wants of go-plugin: the connection.
func HostSet() goplugin.PluginSet { return goplugin.PluginSet{SetName: entry{}} }

// PluginSet is what a plugin gives to go-plugin.
func PluginSet(s *Server) goplugin.PluginSet { return goplugin.PluginSet{SetName: entry{server: s}} }

// entry is both sides' go-plugin entry; server is nil in the host.
type entry struct {
	goplugin.NetRPCUnsupportedPlugin
	server *Server
}

var errHostOnly = errors.New("this side does not serve plugins")

// GRPCServer implements goplugin.GRPCPlugin.
func (e entry) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	if e.server == nil {
		return errHostOnly
	}
	e.server.Register(g)
	return nil
}

// GRPCClient implements goplugin.GRPCPlugin; what is dispensed is the connection.
func (entry) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
