package mmap

import (
	"errors"
	"syscall"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// A full disk, and a want of descriptors or memory, pass. What else the file system
// answers is a failure of the disk, and so is a sync or half a change that failed,
// whatever the reason: see Log.storageError.

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isShortage reports errors that are not the disk's and may pass. Only notTried says
// that nothing was done.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// notTried reports that an error comes of calls alone that were given up before they
// did anything. Of several errors that were joined each has to be such a one: a sync
// that has failed, too, is none.
func notTried(err error) bool {
	if err == nil {
		return false
	}
	if err == core.ErrNotTried { //nolint:errorlint // each branch is looked at by itself
		return true
	}
	switch e := err.(type) { //nolint:errorlint // each branch is looked at by itself
	case *vfs.NotTriedError:
		return true
	case interface{ Unwrap() error }:
		return notTried(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, branch := range e.Unwrap() {
			if !notTried(branch) {
				return false
			}
		}
		return true
	}
	return false
}

// sentinel is what an error means to the caller of something that has failed and left
// all as it was, or may be done again.
func sentinel(err error) error {
	switch {
	case notTried(err):
		return core.ErrNotTried
	case isNoSpace(err):
		return core.ErrNoSpace
	default:
		return core.ErrStorage
	}
}
