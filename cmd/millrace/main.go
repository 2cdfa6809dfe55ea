// Command millrace is the stock broker and its tools.
//
// millrace server starts a broker from the parts that sdk/broker lists; the other
// commands speak Kafka's protocol to any broker. Run without a command it starts a
// broker with its defaults.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}
