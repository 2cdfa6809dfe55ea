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
	ctx, stop := context.WithCancel(context.Background())
	again, giveUp := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		stop()
		<-signals
		signal.Stop(signals) // a third one is not asked
		giveUp()
	}()
	os.Exit(run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, again: again}))
}
