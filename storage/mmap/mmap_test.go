package mmap_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/storage/mmap"
	"github.com/millrace/millrace/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dirs ...string) *mmap.Storage {
	t.Helper()
	s, err := mmap.Open(context.Background(), mmap.Options{Dirs: dirs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.RunOptions(t, storagetest.Options{
		Open:    func(t *testing.T, dir string) core.Storage { return open(t, dir) },
		Durable: true,
	})
}
