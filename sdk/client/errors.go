package client

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
)

// The errors on which callers decide; core.ErrClosed and core.ErrInvalidConfig are
// two more. Use errors.Is.
var (
	// ErrPartition: a partitioner, or whoever named a partition, chose one that the
	// topic does not have.
	ErrPartition = errors.New("the topic has no such partition")
	// ErrNoGroup: only a consumer in a group can commit.
	ErrNoGroup = errors.New("the consumer has no group")
	// ErrInUse: another loop ranges over the consumer's messages.
	ErrInUse = errors.New("another loop reads from the consumer")
	// ErrForeignPartitioner: kgo.RecordPartitioner was among the options, and its
	// partitioner knows nothing of what is asked here.
	ErrForeignPartitioner = errors.New("the options have a partitioner of their own")
)

// Error is a failure of one partition. Unwrap gives the cause: an error of package
// kerr when a broker has answered with one.
type Error struct {
	Topic     string
	Partition int32 // -1 when none was chosen yet
	Err       error
}

func (e *Error) Error() string {
	if e.Partition < 0 {
		return fmt.Sprintf("topic %s: %v", e.Topic, e.Err)
	}
	return fmt.Sprintf("%s-%d: %v", e.Topic, e.Partition, e.Err)
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// closed adds core.ErrClosed to franz-go's own error for it.
func closed(err error) error {
	if errors.Is(err, kgo.ErrClientClosed) {
		return fmt.Errorf("%w: %w", core.ErrClosed, err)
	}
	return err
}
