package remote_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/plugins/remote"
	"github.com/millrace/millrace/storage/compression"
)

// away is a link to a plugin that is not there; it counts calls.
type away struct {
	remote.Direct
	calls int
}

func (a *away) Call(context.Context, remote.Name, func(context.Context, grpc.ClientConnInterface) error) error {
	a.calls++
	return errors.New("it is away")
}

// TestDecompressTrusts: nothing checks what a plugin decompresses, so that only one that
// is trusted is asked.
func TestDecompressTrusts(t *testing.T) {
	t.Parallel()
	gzip := compression.NewGzip()
	packed, err := gzip.Compress(nil, []byte("hello"), core.CompressionParams{Level: core.DefaultLevel, Magic: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, trust := range []bool{false, true} {
		l := &away{}
		c := remote.NewCompressor(remote.CompressorOptions{
			Link: l, Component: "x", Capabilities: []remote.Capability{remote.Decompress}, Codec: record.Gzip, Builtin: gzip, Trust: trust,
		})
		out, err := c.Decompress(nil, packed, core.CompressionParams{Magic: 2})
		if string(out) != "hello" || err != nil || trust != (l.calls == 1) {
			t.Errorf("trust %t: %q, %v, %d calls", trust, out, err, l.calls)
		}
	}
}
