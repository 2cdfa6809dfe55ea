package leaktest

import (
	"testing"

	"go.uber.org/goleak"
)

// TestFind is not parallel: it looks at the goroutines of the process.
//
//nolint:paralleltest // see above
func TestFind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	if err := find(0, before); err != nil {
		t.Fatalf("found what is not there: %v", err)
	}
	stop := make(chan struct{})
	go func() { <-stop }()
	if find(0, before) == nil {
		t.Fatal("a goroutine was not found")
	}
	close(stop)
	None(t, before)
}
