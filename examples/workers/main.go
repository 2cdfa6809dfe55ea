// Command workers sends jobs to a topic that serves as a queue, and works on them in a
// group of three: every job is done at least once, and a job that all have done leaves
// the topic by itself.
//
//	go run ./cmd/millrace &
//	go run ./cmd/millrace topics create jobs --partitions 6 --config retention.policy=consumed
//	go run ./examples/workers 127.0.0.1:9092
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/client"
)

const (
	topic   = "jobs"
	jobs    = 100
	workers = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	brokers := []string{"127.0.0.1:9092"}
	if len(os.Args) > 1 {
		brokers = os.Args[1:]
	}
	done, err := run(ctx, brokers)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "workers:", err)
		os.Exit(1)
	}
	fmt.Println(done, "jobs are done")
}

// run sends the jobs and works on them until all are done. It says how many there were.
func run(ctx context.Context, brokers []string, opts ...kgo.Opt) (int, error) {
	if err := send(ctx, brokers, opts); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		seen  sync.Map // at least once: a job may come twice
		count atomic.Int64
		group sync.WaitGroup
		errs  [workers]error
	)
	for i := range workers {
		group.Go(func() {
			errs[i] = work(ctx, brokers, opts, func(job string) {
				if _, twice := seen.LoadOrStore(job, true); !twice && count.Add(1) == jobs {
					cancel()
				}
			})
		})
	}
	group.Wait()
	return int(count.Load()), errors.Join(errs[:]...)
}

// send writes each job once, whatever happens to the connection.
func send(ctx context.Context, brokers []string, opts []kgo.Opt) error {
	p, err := client.NewProducer(client.ProducerConfig{Brokers: brokers, Options: opts})
	if err != nil {
		return err
	}
	var messages []*client.Message
	for i := range jobs {
		messages = append(messages, &client.Message{Topic: topic, Key: strconv.AppendInt(nil, int64(i), 10), Value: fmt.Appendf(nil, "job %d", i)})
	}
	return errors.Join(p.Send(ctx, messages...), p.Close(ctx))
}

// work does jobs until ctx ends. Those that it has done are committed then, and the
// others of the group go on with the rest.
func work(ctx context.Context, brokers []string, opts []kgo.Opt, do func(job string)) (err error) {
	c, err := client.NewConsumer(client.ConsumerConfig{Brokers: brokers, Topics: []string{topic}, Group: "workers", Options: opts})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	for m, err := range c.Messages(ctx) {
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		do(string(m.Value))
	}
	return nil
}
