// Package leaktest looks for goroutines, and for memory, that tests leave behind. For
// goroutines it does what goleak does, and gives those that are on their way to their end more than goleak's half a
// second, which is too little on a loaded machine.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a goroutine may take to end after the tests.
const patience = time.Minute

// Main runs the tests of a package and ends the process: with 1 where they pass and leave
// goroutines behind.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := find(patience); err != nil {
			fmt.Fprintf(os.Stderr, "the tests leave goroutines behind: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// None fails the test when there are goroutines but for those that the options ignore.
// Beside parallel tests it finds theirs.
func None(t testing.TB, options ...goleak.Option) {
	t.Helper()
	if err := find(patience, options...); err != nil {
		t.Error(err)
	}
}

// find looks again until nothing is left, or the time is over.
func find(patience time.Duration, options ...goleak.Option) error {
	for end := time.Now().Add(patience); ; {
		err := goleak.Find(options...)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// Heap is how much of the heap is in use after a collection, in bytes. It is that of the
// whole process: a test that compares two of them does not run beside others.
func Heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
