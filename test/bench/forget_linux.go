package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// forget writes a file back and drops it from the page cache.
func forget(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = f.Sync()
	if err == nil {
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("drop %s from the page cache: %w", name, err)
	}
	return nil
}
