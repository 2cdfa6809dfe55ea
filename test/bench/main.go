// Command bench measures a whole broker over TCP beside a bare server that does the
// same system calls and nothing else: for produce it checks the CRC32C and writes,
// for fetch it answers with sendfile. Both are driven by the same client, in turn, so
// that the ratio holds on a noisy machine.
//
// It prints one line a round in the format of Go benchmarks, for benchstat, and a
// summary of medians and ratios at the end.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

type options struct {
	millrace string // the binary
	dir      string // where both write
	rounds   int
	volume   int64 // bytes a round
	only     string
	check    bool // fail when a target is missed
	scale    bool // run what concerns large logs and many partitions instead
	// partitions are how many there are at the start of scale, produces how many
	// requests a percentile is taken of.
	partitions, produces int
	pace                 int64 // bytes a second of a cold reader; 0 is no bound
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == bareCommand {
		// It ends with its parent, or with an error.
		fmt.Fprintln(os.Stderr, "bare server:", runBare(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == readersCommand {
		if err := runReaders(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "cold readers:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.millrace, "millrace", os.Getenv("BROKER_UNDER_TEST"), "the binary to measure; built when empty")
	flag.StringVar(&o.dir, "dir", "", "where to write; a temporary directory when empty")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each")
	flag.Int64Var(&o.volume, "volume", 2<<30, "bytes of a produce round; a fetch round moves four times as many")
	flag.StringVar(&o.only, "only", "", "run only the cases whose name contains this")
	flag.BoolVar(&o.check, "check", false, "exit with 1 when a target is missed")
	flag.BoolVar(&o.scale, "scale", false, "measure the start with many partitions and producing beside cold readers, and nothing else")
	flag.IntVar(&o.partitions, "partitions", 10_000, "partitions of -scale, in hundreds")
	flag.Int64Var(&o.pace, "pace", 1<<20, "bytes a second of each cold reader of -scale; 0: as fast as it goes")
	flag.IntVar(&o.produces, "produces", 2000, "produce requests of a round of -scale")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, &o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
