package vfs

import (
	"errors"
	"os"
	"syscall"
)

// NotTriedError marks the error of a call that was given up before it did anything:
// nothing on the disk has changed, nothing that was written is in doubt, and the same
// call may succeed later. Only the call itself is meant, not what came before it: who
// goes on to report a failure of several calls has to look at all of them.
type NotTriedError struct{ Err error }

// Error implements error.
func (e *NotTriedError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *NotTriedError) Unwrap() error { return e.Err }

// OpenError marks the error of opening a file with these flags where it is certain
// that nothing was done: the kernel takes a descriptor before it looks at the file, and
// what neither makes nor cuts a file changes nothing even where memory was wanting. It
// is never for a write or a sync, which may have lost something whatever they answer.
// A file system implements it for its own calls.
func OpenError(err error, flag int) error {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, syscall.ENOMEM) && flag&(os.O_CREATE|os.O_TRUNC) == 0:
		return &NotTriedError{Err: err}
	}
	return err
}
