//go:build !unix

package embedded

import (
	"errors"
	"fmt"
	"os"
)

// lockFile cannot be kept here, and a directory without a lock is not safe.
func lockFile(path string) (*os.File, error) {
	return nil, fmt.Errorf("lock %s: %w on this system; set coordination.embedded.memory=true", path, errors.ErrUnsupported)
}
