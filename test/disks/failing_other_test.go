//go:build !linux

package disks_test

import "testing"

func ioErrors(t *testing.T) disk {
	t.Helper()
	t.Skip("a disk that fails takes Linux")
	return disk{}
}
