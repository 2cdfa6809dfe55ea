package tree

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/millrace/millrace/core"
)

// parents lists the lasting nodes that a cluster begins with, parents first.
func parents() []string {
	paths := []string{
		ConsumersPath, BrokersPath, BrokerIDsPath, TopicsPath, BrokerSeqIDPath,
		ConfigPath, ConfigChangesPath,
		AdminPath, DeleteTopicsPath,
		ISRChangesPath, LogDirEventsPath, ProducerIDBlockPath, ClusterPath,
	}
	for _, t := range EntityTypes() {
		paths = append(paths, ConfigTypePath(t))
	}
	return paths
}

// Bootstrap creates the lasting nodes that everything else hangs from, where they
// are missing, in one commit. It may run on every broker at once.
func Bootstrap(ctx context.Context, s core.CoordinatorSession) error {
	for {
		var ops []core.Op
		for _, p := range parents() {
			_, err := s.Get(ctx, p)
			switch {
			case errors.Is(err, core.ErrNotFound):
				ops = append(ops, core.Create(p, nil))
			case err != nil:
				return fmt.Errorf("prepare the coordination tree: %w", err)
			}
		}
		if len(ops) == 0 {
			return nil
		}
		// Where another broker is quicker, or the outcome is unknown, look again.
		_, err := s.Commit(ctx, ops...)
		if err != nil && !errors.Is(err, core.ErrNodeExists) && !errors.Is(err, core.ErrOutcomeUnknown) {
			return fmt.Errorf("prepare the coordination tree: %w", err)
		}
	}
}

// ClusterID reads the cluster's id, or makes one: a random UUID in 22 characters of
// URL-safe base64. Call Bootstrap before. All brokers get the same answer.
func ClusterID(ctx context.Context, s core.CoordinatorSession) (string, error) {
	for {
		node, err := s.Get(ctx, ClusterIDPath)
		if err == nil {
			return DecodeClusterID(node.Data)
		}
		if !errors.Is(err, core.ErrNotFound) {
			return "", fmt.Errorf("read the cluster id: %w", err)
		}
		var random [16]byte
		rand.Read(random[:]) // it never fails
		_, err = s.Commit(ctx, core.Create(ClusterIDPath, EncodeClusterID(UUID(random).String())))
		if err != nil && !errors.Is(err, core.ErrNodeExists) && !errors.Is(err, core.ErrOutcomeUnknown) {
			return "", fmt.Errorf("make a cluster id: %w", err)
		}
	}
}

// UUID makes a version 4 UUID (RFC 9562) of random bytes.
func UUID(random [16]byte) core.TopicID {
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	return core.TopicID(random)
}
