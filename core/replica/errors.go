package replica

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

func errNotLeader(tp core.TopicPartition) error {
	return core.Failf(kerr.NotLeaderForPartition.Code, "This broker does not lead partition %s.", tp)
}

func errUnknownPartition(topic string, partition int32) error {
	return core.Failf(kerr.UnknownTopicOrPartition.Code, "This broker does not host partition %s-%d.", topic, partition)
}

func errOffline(tp core.TopicPartition, cause error) error {
	return &core.KafkaError{
		Code:    kerr.KafkaStorageError.Code,
		Message: fmt.Sprintf("The log of partition %s is offline on this broker; see the broker's log.", tp),
		Err:     cause,
	}
}

func errClosed(tp core.TopicPartition) error {
	return &core.KafkaError{
		Code:    kerr.NotLeaderForPartition.Code,
		Message: fmt.Sprintf("This broker has stopped serving partition %s.", tp),
		Err:     core.ErrClosed,
	}
}

func errOutOfRange(tp core.TopicPartition, offset, start, end int64) error {
	return core.Failf(kerr.OffsetOutOfRange.Code,
		"Offset %d is outside the log of partition %s, which has the offsets from %d up to, not including, %d.", offset, tp, start, end)
}

func errNotEnoughReplicas(tp core.TopicPartition, isr []int32, need int) error {
	return core.Failf(kerr.NotEnoughReplicas.Code,
		"The size of the current ISR %v is insufficient to satisfy the min.isr requirement of %d for partition %s", isr, need, tp)
}

func errNotEnoughReplicasAfterAppend(tp core.TopicPartition, isr []int32, need int) error {
	return core.Failf(kerr.NotEnoughReplicasAfterAppend.Code,
		"The records were appended to partition %s, but its ISR %v has become smaller than the %d replicas that min.insync.replicas asks for.", tp, isr, need)
}

// storageError turns a failure of the log into what a client is told.
func storageError(tp core.TopicPartition, doing string, err error) error {
	if err == nil {
		return nil
	}
	var ke *core.KafkaError
	if errors.As(err, &ke) {
		return err
	}
	code, message := core.KafkaCode(err)
	return &core.KafkaError{Code: code, Message: message, Err: fmt.Errorf("%s %s: %w", doing, tp, err)}
}

// validationError turns what core/record found into what a client is told, and the
// records that are to blame (KIP-467).
func validationError(tp core.TopicPartition, err error) ([]RecordError, error) {
	v, ok := record.AsValidationError(err)
	if !ok {
		return nil, storageError(tp, "validate a batch for", err)
	}
	code := kerr.InvalidRecord.Code
	switch v.Kind {
	case record.KindCorrupt:
		code = kerr.CorruptMessage.Code
	case record.KindInvalidTimestamp:
		code = kerr.InvalidTimestamp.Code
	case record.KindUnsupportedCodec:
		code = kerr.UnsupportedCompressionType.Code
	case record.KindTooLarge:
		code = kerr.MessageTooLarge.Code
	case record.KindInvalidRecord, record.KindOldFormat:
	}
	var records []RecordError
	if len(v.Records) > 0 {
		records = make([]RecordError, len(v.Records))
		for i, r := range v.Records {
			records[i] = RecordError{Index: r.Index, Message: r.Message}
		}
	}
	return records, &core.KafkaError{Code: code, Message: fmt.Sprintf("%s (partition %s)", v.Message, tp), Err: v.Unwrap()}
}
