package memory_test

import (
	"context"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/memory"
	"github.com/millrace/millrace/storage/storagetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) core.Storage { return memory.Open(memory.Options{}) })
}

func TestFactory(t *testing.T) {
	t.Parallel()
	f, err := memory.Factory()
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.New(context.Background(), core.Env{Clock: core.SystemClock{}})
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "memory" || len(f.Settings) != 0 {
		t.Fatalf("factory %q with settings %v", f.Name, f.Settings)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOpen(b *testing.B) {
	ctx := context.Background()
	for b.Loop() {
		s := memory.Open(memory.Options{})
		id := core.LogID{TopicPartition: core.TopicPartition{Topic: "t"}}
		if _, _, err := s.Open(ctx, id, core.DefaultLogConfig()); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
