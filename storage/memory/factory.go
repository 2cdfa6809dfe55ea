package memory

import (
	"context"

	"github.com/millrace/millrace/core"
)

type config struct{}

// Factory describes the storage under the name memory. It has no settings.
func Factory() (core.Factory[core.Storage], error) {
	return core.Define("memory", "keeps logs in memory and forgets them when the broker stops", config{},
		func(_ context.Context, env core.Env, _ config) (core.Storage, error) {
			return Open(Options{Clock: env.Clock}), nil
		})
}
