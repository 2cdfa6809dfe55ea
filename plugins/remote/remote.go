// Package remote carries the seams over gRPC: a client of each, which is a part of a
// broker like any other, and a server of each, which makes a part in a plugin's
// process out of the same factories that a broker is built from.
//
// The contract is plugins/proto/v0/plugin.proto. A client does not know how its
// plugin is kept alive: a Link does.
package remote

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// Capability is what only some implementations of a seam can do; the names of the
// contract.
type Capability string

// The capabilities.
const (
	KeyOnly    Capability = "key-only"   // partitioner: core.KeyOnly
	Values     Capability = "value"      // partitioner: wants the records' values
	Headers    Capability = "headers"    // partitioner: wants the records' headers
	Rules      Capability = "rule"       // partitioner: publishes rules
	Batches    Capability = "batches"    // partitioner: core.BatchObserver
	Committed  Capability = "committed"  // retention: wants committed offsets
	Decompress Capability = "decompress" // compression: decompresses too
)

// Name is a component of a plugin.
type Name struct {
	Seam      pb.Seam
	Component string
}

// String is for messages: "partitioner geo".
func (n Name) String() string { return SeamName(n.Seam) + " " + n.Component }

// SeamName is how people call a seam.
func SeamName(s pb.Seam) string {
	switch s {
	case pb.Seam_SEAM_PARTITIONER:
		return "partitioner"
	case pb.Seam_SEAM_RETENTION:
		return "retention"
	case pb.Seam_SEAM_COMPRESSION:
		return "compression"
	default:
		return fmt.Sprintf("seam %d", s)
	}
}

// Link is the connection to a plugin that somebody keeps alive.
type Link interface {
	// Call calls f with a connection to the plugin, in which the component is
	// configured. f is called once more when the plugin dies under it, or answers that
	// it cannot, as Again says; so it must be repeatable. Call bounds the time. Safe for
	// concurrent use.
	Call(ctx context.Context, n Name, f func(ctx context.Context, conn grpc.ClientConnInterface) error) error
	// Lied says that a component answered nonsense, and what.
	Lied(n Name, err error)
	// FellBack says that the built-in did the component's work, because of err.
	FellBack(n Name, err error)
}

// Direct is a Link over one connection, without supervision: for tests and tools.
type Direct struct{ Conn grpc.ClientConnInterface }

// Call implements Link.
func (d Direct) Call(ctx context.Context, _ Name, f func(context.Context, grpc.ClientConnInterface) error) error {
	return f(ctx, d.Conn)
}

// Lied implements Link; it does nothing.
func (Direct) Lied(Name, error) {}

// FellBack implements Link; it does nothing.
func (Direct) FellBack(Name, error) {}

// ErrNonsense is in the chain of an error that a plugin's answer makes no sense.
var ErrNonsense = errors.New("the plugin answered nonsense")

// Again reports whether a call that failed with err is worth repeating: the plugin
// died or was not there. What the plugin refused it will refuse again.
func Again(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Aborted, codes.Canceled:
		return true
	default:
		return false
	}
}

// toStatus makes an error that goes to the broker.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, core.ErrTooLarge):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, core.ErrCodec):
		return status.Error(codes.DataLoss, err.Error())
	case errors.Is(err, core.ErrInvalidConfig), errors.Is(err, core.ErrUnknownComponent):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	default:
		if _, ok := status.FromError(err); ok {
			return err
		}
		return status.Error(codes.Unknown, err.Error())
	}
}
