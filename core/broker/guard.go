package broker

import (
	"context"
	"log/slog"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/guard"
	"github.com/millrace/millrace/core/metadata"
)

// newGuard makes the guard of topics with partitioner.guard. A partitioner is built when
// the first topic asks for it.
func newGuard(reg *core.Registry[core.Partitioner], s *settings, log *slog.Logger, cache *metadata.Cache) *guard.Guard {
	return guard.New(guard.Options{
		Partitioner: func(ctx context.Context, name string) (core.Partitioner, error) {
			return reg.Build(ctx, name, s.env("partitioner", log))
		},
		Partitions: func(topic string) int32 {
			if t, ok := cache.Current().Topic(topic); ok {
				return int32(len(t.Partitions))
			}
			return 0
		},
		Log: log.With("part", "guard"),
	})
}
