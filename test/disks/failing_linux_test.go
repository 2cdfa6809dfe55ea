package disks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/test/harness"
)

// ext4Shutdown (EXT4_IOC_SHUTDOWN) has a file system fail as its disk would: every
// call gets EIO, and what was not synced is lost.
const (
	ext4Shutdown       = 0x8004587d
	withoutFlushingLog = 2
)

// ioErrors is a disk of its own, an ext4 on a loop device, that begins to fail. Making
// one takes root and a kernel with both.
func ioErrors(t *testing.T) disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk that fails")
	}
	harness.Need(t, "mkfs.ext4", "mount", "umount")
	image := filepath.Join(t.TempDir(), "image")
	mnt := t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 256<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	mount := func() ([]byte, error) {
		return exec.CommandContext(t.Context(), "mount", "-o", "loop", image, mnt).CombinedOutput()
	}
	if out, err := mount(); err != nil {
		t.Skipf("root may not mount a loop device here (a container without CAP_SYS_ADMIN?): %v\n%s", err, out)
	}
	unmount := func() {
		if err := syscall.Unmount(mnt, 0); err != nil {
			t.Errorf("unmount: %v", err)
			_ = syscall.Unmount(mnt, syscall.MNT_DETACH)
		}
	}
	t.Cleanup(unmount)
	dir := filepath.Join(mnt, "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return disk{
		dir: dir,
		fail: func() {
			f, err := os.Open(mnt)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = f.Close() }() // only a handle
			if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, withoutFlushingLog); err != nil {
				t.Errorf("have the disk fail: %v", err)
			}
		},
		back: func() {
			unmount()
			if out, err := mount(); err != nil {
				t.Fatalf("mount the disk again: %v\n%s", err, out)
			}
		},
	}
}
