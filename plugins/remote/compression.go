package remote

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// CompressorOptions are what NewCompressor takes.
type CompressorOptions struct {
	Link         Link
	Component    string
	Capabilities []Capability
	Codec        record.Codec
	// Builtin is the built-in implementation of the codec: it checks what the plugin
	// compresses, decompresses where the plugin does not, and does the work when the
	// plugin cannot.
	Builtin core.Compressor
	// Trust leaves out the check that what the plugin compressed is what comes out of
	// the built-in again, and lets the plugin decompress. A plugin that errs then loses
	// records.
	Trust bool
	// Timeout bounds one call; 0 is the link's.
	Timeout time.Duration
}

// compressor asks a plugin.
type compressor struct {
	o          CompressorOptions
	name       Name
	decompress bool
}

// NewCompressor makes the client of a compressor. It is safe for concurrent use. No
// call fails because the plugin does: the built-in does the work then.
func NewCompressor(o CompressorOptions) core.Compressor {
	return &compressor{
		o: o, name: Name{pb.Seam_SEAM_COMPRESSION, o.Component},
		decompress: o.Trust && slices.Contains(o.Capabilities, Decompress),
	}
}

// Codec implements core.Compressor.
func (c *compressor) Codec() record.Codec { return c.o.Codec }

// Compress implements core.Compressor.
func (c *compressor) Compress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	req := &pb.CompressRequest{Component: c.o.Component, Data: src, Magic: uint32(p.Magic)}
	if p.Level != core.DefaultLevel {
		level := int32(p.Level)
		req.Level = &level
	}
	var out []byte
	err := c.call(func(ctx context.Context, conn grpc.ClientConnInterface) error {
		reply, err := pb.NewCompressionClient(conn).Compress(ctx, req)
		if err != nil {
			return err
		}
		out = reply.Data
		return c.check(out, src, p)
	})
	if err != nil {
		if status.Code(err) == codes.InvalidArgument {
			return nil, fmt.Errorf("compress with the plugin's %s: %w: %w", c.name, core.ErrInvalidConfig, err)
		}
		c.o.Link.FellBack(c.name, err)
		return c.o.Builtin.Compress(dst, src, p)
	}
	return append(dst, out...), nil
}

// check sees that what the plugin made can be read by everybody else.
func (c *compressor) check(compressed, src []byte, p core.CompressionParams) error {
	if c.o.Trust {
		return nil
	}
	p.Limit = len(src) + 1 // a limit of 0 would be none
	back, err := c.o.Builtin.Decompress(make([]byte, 0, len(src)+1), compressed, p)
	if err == nil && !bytes.Equal(back, src) {
		err = fmt.Errorf("%d bytes came back for %d", len(back), len(src))
	}
	if err != nil {
		err = fmt.Errorf("%w: what it compressed does not decompress to the same with the built-in %s: %w", ErrNonsense, c.o.Codec, err)
		c.o.Link.Lied(c.name, err)
	}
	return err
}

// Decompress implements core.Compressor. A plugin is asked only when it is trusted: what
// comes out may be written into a log under another codec, and to check it would be the
// built-in's work again.
func (c *compressor) Decompress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	if !c.decompress {
		return c.o.Builtin.Decompress(dst, src, p)
	}
	req := &pb.DecompressRequest{Component: c.o.Component, Data: src, Magic: uint32(p.Magic), Limit: uint64(max(p.Limit, 0))}
	var out []byte
	err := c.call(func(ctx context.Context, conn grpc.ClientConnInterface) error {
		reply, err := pb.NewCompressionClient(conn).Decompress(ctx, req)
		if err != nil {
			return err
		}
		if p.Limit > 0 && len(reply.Data) > p.Limit {
			err = fmt.Errorf("%w: %d bytes where %d were the limit", ErrNonsense, len(reply.Data), p.Limit)
			c.o.Link.Lied(c.name, err)
			return err
		}
		out = reply.Data
		return nil
	})
	if err != nil {
		// Also where the plugin says that src is not valid: the built-in has the last word on
		// what clients have sent.
		if code := status.Code(err); code != codes.DataLoss && code != codes.ResourceExhausted {
			c.o.Link.FellBack(c.name, err)
		}
		return c.o.Builtin.Decompress(dst, src, p)
	}
	return append(dst, out...), nil
}

func (c *compressor) call(f func(ctx context.Context, conn grpc.ClientConnInterface) error) error {
	ctx := context.Background() // core.Compressor has none; the link bounds the time
	if c.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.Timeout)
		defer cancel()
	}
	return c.o.Link.Call(ctx, c.name, f)
}

// compressionServer serves compressors.
type compressionServer struct {
	pb.UnimplementedCompressionServer
	shelf *shelf[core.Compressor]
}

// Compress implements pb.CompressionServer.
func (s *compressionServer) Compress(_ context.Context, req *pb.CompressRequest) (*pb.CompressReply, error) {
	c, err := s.shelf.get(req.Component)
	if err != nil {
		return nil, err
	}
	p := core.CompressionParams{Level: core.DefaultLevel, Magic: int8(req.Magic)}
	if req.Level != nil {
		p.Level = int(*req.Level)
	}
	out, err := c.Compress(nil, req.Data, p)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.CompressReply{Data: out}, nil
}

// Decompress implements pb.CompressionServer.
func (s *compressionServer) Decompress(_ context.Context, req *pb.DecompressRequest) (*pb.DecompressReply, error) {
	c, err := s.shelf.get(req.Component)
	if err != nil {
		return nil, err
	}
	limit := int(min(req.Limit, 1<<31-1))
	out, err := c.Decompress(nil, req.Data, core.CompressionParams{Level: core.DefaultLevel, Magic: int8(req.Magic), Limit: limit})
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.DecompressReply{Data: out}, nil
}
