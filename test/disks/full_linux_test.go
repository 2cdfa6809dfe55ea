package disks_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// TestFullDisk fills a file system of 32 MiB, where it may mount one: producers are
// told, consumers go on, and so do producers when there is space again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("no file system can be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(root, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := harness.StartIn(t, dir, "127.0.0.1:0")
	// It ends before its disk goes.
	t.Cleanup(func() { b.Kill() })
	c := client(t, b)
	size := "4194304"
	create(t, c, 1, map[string]*string{"segment.bytes": &size})
	var acked []string
	try := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		k := fmt.Sprint(len(acked))
		_, err := produce(ctx, c, 0, k, 300_000)
		if err == nil {
			acked = append(acked, k)
		}
		return err
	}
	var err error
	for range 200 {
		if err = try(); err != nil {
			break
		}
	}
	if !storageError(err) {
		t.Fatalf("a producer on a full disk was told: %v", err)
	}
	for range 3 { // it stays so
		if err := try(); err != nil && !storageError(err) {
			t.Fatalf("a producer on a full disk was told: %v", err)
		}
	}
	has(t, b, 0, acked)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	before := len(acked)
	for range 10 {
		if err := try(); err != nil {
			t.Fatalf("there is space again: %v", err)
		}
	}
	if len(acked) != before+10 {
		t.Fatal("not all was taken")
	}
	has(t, b, 0, acked)
	b.Stop()
	b = harness.StartIn(t, dir, b.Addr)
	has(t, b, 0, acked)
	b.Kill()
}
