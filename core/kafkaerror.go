package core

import (
	"errors"
	"fmt"
)

// KafkaError is a failure with the error code that a client is to see. Err, which
// may be nil, is for the broker's log only: its text may hold paths.
type KafkaError struct {
	Code    int16 // Kafka's number, e.g. 3 for UNKNOWN_TOPIC_OR_PARTITION
	Message string
	Err     error
}

func (e *KafkaError) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap is the cause.
func (e *KafkaError) Unwrap() error { return e.Err }

// Failf makes a KafkaError from a code and a message for the client.
func Failf(code int16, format string, args ...any) error {
	return &KafkaError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Kafka's codes for the errors of this package. -1 is UNKNOWN_SERVER_ERROR.
const (
	codeUnknown          = -1
	codeOffsetOutOfRange = 1
	codeStorage          = 56
	codeNotController    = 41
)

// KafkaCode finds the error code and the message for a client: those of a
// KafkaError in the chain, or the code of a sentinel of this package, or -1. nil
// has code 0.
func KafkaCode(err error) (code int16, message string) {
	var ke *KafkaError
	switch {
	case err == nil:
		return 0, ""
	case errors.As(err, &ke):
		return ke.Code, ke.Message
	case errors.Is(err, ErrOffsetOutOfRange):
		return codeOffsetOutOfRange, "The requested offset is outside the log."
	case errors.Is(err, ErrNoSpace):
		return codeStorage, "The disk of the partition's log is full; writing goes on by itself when there is space again."
	case errors.Is(err, ErrStorage), errors.Is(err, ErrClosed), errors.Is(err, ErrCorrupt):
		return codeStorage, "The partition's log is offline; see the broker's log."
	case errors.Is(err, ErrNotTried):
		return codeStorage, "The broker is short of file descriptors or memory; it goes on by itself when there are some again."
	case errors.Is(err, ErrSessionLost), errors.Is(err, ErrOutcomeUnknown):
		return codeNotController, "The broker has lost its coordination session; try again."
	default:
		return codeUnknown, "The broker failed unexpectedly; see its log."
	}
}
