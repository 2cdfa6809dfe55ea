//go:build !unix

package plugintest

import (
	"errors"
	"os"
)

func kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

func pause(int) error { return errors.ErrUnsupported }

func signalled(pid int) bool {
	_, err := os.FindProcess(pid)
	return err == nil
}
