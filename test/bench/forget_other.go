//go:build !linux

package main

import (
	"errors"
	"fmt"
)

func forget(name string) error {
	return fmt.Errorf("drop %s from the page cache: %w", name, errors.ErrUnsupported)
}
