package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// progress shows a line on the error stream while work goes on, when people look: the
// error stream is a terminal, and used, which the command reads or prints records with, is
// not. stop removes it; it may be called twice.
func progress(ctx context.Context, io streams, used any, line func() string) (stop func()) {
	if !terminal(io.err) || terminal(used) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(io.err, "\r\x1b[K%s", line())
			case <-ctx.Done():
				fmt.Fprint(io.err, "\r\x1b[K")
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
