package mmap

import (
	"context"
	"errors"

	"github.com/millrace/millrace/core"
)

// config is the storage's settings.
type config struct {
	LogDir          string   `setting:"log.dir" doc:"The directory in which the log data is kept (supplemental for log.dirs)."`
	LogDirs         []string `setting:"log.dirs" doc:"The directories in which the log data is kept, separated by commas. If not set, the value in log.dir is used."`
	MaxOpenSegments int      `setting:"storage.mmap.max.open.segments" doc:"How many segments, beside those that are written to, are kept open: a descriptor and two mappings each."`
}

// Validate is called by the factory.
func (c *config) Validate() error {
	if len(c.LogDirs) == 0 && c.LogDir == "" {
		return errors.New("log.dirs and log.dir are both empty: name a directory for the logs")
	}
	if c.MaxOpenSegments < 1 {
		return errors.New("storage.mmap.max.open.segments must be at least 1")
	}
	return nil
}

// Factory describes the storage under the name mmap.
func Factory() (core.Factory[core.Storage], error) {
	return core.Define("mmap", "keeps logs in local directories, in Kafka's format",
		config{LogDir: "millrace-data", MaxOpenSegments: defaultOpenSegments},
		func(ctx context.Context, env core.Env, c config) (core.Storage, error) {
			dirs := c.LogDirs
			if len(dirs) == 0 {
				dirs = []string{c.LogDir}
			}
			return Open(ctx, Options{Dirs: dirs, Clock: env.Clock, Log: env.Log, MaxOpenSegments: c.MaxOpenSegments})
		})
}
