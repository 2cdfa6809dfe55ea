package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/replica"
)

// Configs are the settings in force on this broker: a *config.Dynamic.
type Configs interface {
	// Snapshot is the newest state of the broker's settings.
	Snapshot() *config.Snapshot
	// Topic is the newest configuration of a topic; the defaults where it has none.
	Topic(name string) *config.Topic
	// Group is the newest configuration of a group; the defaults where it has none.
	Group(id string) *config.Group
	// Groups are the ids of the groups that have a configuration, in order.
	Groups() []string
}

// Dirs lists the log directories with their sizes: a core.Storage.
type Dirs interface {
	Dirs(ctx context.Context) ([]core.Dir, error)
}

// Hosted describes the partitions on this broker, by topic and number, and moves
// them between its log directories: a *replica.Manager.
type Hosted interface {
	Partitions() []replica.PartitionInfo
	// AlterDirs begins to move logs and answers an error, or nil, for each.
	AlterDirs(ctx context.Context, wishes []replica.DirWish) []error
}

// leastPatience is how long a request may take whose timeout is 0 or less. Kafka
// does the work of such a request and answers REQUEST_TIMED_OUT without looking what
// became of it; here the client learns it, as long as that does not take long.
const leastPatience = time.Second

// patience bounds an administrative request by the timeout that it names.
func (s *Server) patience(ctx context.Context, millis int32) (context.Context, context.CancelFunc) {
	if millis <= 0 {
		return s.withTimeout(ctx, leastPatience)
	}
	return s.withTimeout(ctx, time.Duration(millis)*time.Millisecond)
}

// failed is what a client is told of an error, which may be nil. What the client is
// not to blame for goes to the log.
func (s *Server) failed(doing string, err error) (int16, *string) {
	if err == nil {
		return 0, nil
	}
	code, message := core.KafkaCode(err)
	if code == kerr.UnknownServerError.Code || code == kerr.KafkaStorageError.Code {
		s.Log.Error("a request failed", "doing", doing, "error", err)
	}
	return code, kmsg.StringPtr(message)
}

// denied is the error for what the authorizer does not allow.
func denied(e *kerr.Error) error { return core.Failf(e.Code, "Authorization failed.") }

// clusterMetadataTopic is the name of the log of a KRaft cluster; no topic may have
// it.
const clusterMetadataTopic = "__cluster_metadata"
