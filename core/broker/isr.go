package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/replica"
)

// isrAlterer is the controller as leaders need it.
type isrAlterer interface {
	AlterISR(ctx context.Context, change controller.ISRChange) (controller.PartitionState, error)
}

// isrChanges carries the wishes of this broker's leaders to the controller; it is a
// replica.ISRChanger. The controller is on this broker: others come with clusters.
type isrChanges struct {
	broker     int32
	controller isrAlterer
	timeout    func() time.Duration // of one request

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newISRChanges(broker int32, c isrAlterer, timeout func() time.Duration) *isrChanges {
	i := &isrChanges{broker: broker, controller: c, timeout: timeout}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	return i
}

// ChangeISR implements replica.ISRChanger.
func (i *isrChanges) ChangeISR(change replica.ISRChange, done func(replica.ISRResult, error)) {
	i.wg.Go(func() {
		ctx, cancel := context.WithTimeout(i.ctx, i.timeout())
		defer cancel()
		s, err := i.controller.AlterISR(ctx, controller.ISRChange{
			TopicPartition: change.TopicPartition, Broker: i.broker,
			LeaderEpoch: change.LeaderEpoch, PartitionEpoch: change.PartitionEpoch, ISR: change.ISR,
		})
		if err != nil {
			done(replica.ISRResult{}, refusedOrUnknown(err))
			return
		}
		done(replica.ISRResult{LeaderEpoch: s.LeaderEpoch, PartitionEpoch: s.PartitionEpoch, ISR: s.ISR}, nil)
	})
}

// refusedOrUnknown tells a change that was refused from one that may have been made
// all the same, because the answer is lost with the session or came too late.
func refusedOrUnknown(err error) error {
	var ke *core.KafkaError
	if errors.As(err, &ke) {
		switch ke.Code {
		case kerr.FencedLeaderEpoch.Code, kerr.InvalidUpdateVersion.Code, kerr.InvalidRequest.Code,
			kerr.IneligibleReplica.Code, kerr.UnknownTopicOrPartition.Code:
			return err
		}
	}
	return fmt.Errorf("%w: %w", core.ErrOutcomeUnknown, err)
}

// close gives up what is under way. Nothing may be asked any more.
func (i *isrChanges) close() {
	i.cancel()
	i.wg.Wait()
}
