package clients_test

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// groupClient is a client as the tests of groups drive it.
type groupClient struct {
	name, version string
	// needs are the commands without which it cannot be had.
	needs []string
	// codecs that it produces with.
	codecs []string
	// assignor is how the group shares its partitions, for the page in docs.
	assignor string
	// consumer says that its groups have the protocol of KIP-848.
	consumer bool
	// silent clients do not tell when they have committed, or not for certain.
	silent bool
	// send produces the numbers from first on, n of them, as numberOf reads them; number
	// i goes to partition i modulo groupPartitions. It returns when they are
	// acknowledged.
	send func(ctx context.Context, addr, topic, codec string, first, n int) error
	// member makes the program of one member, which reads the topic from its beginning
	// and commits what it has printed: see program. Its session times out after
	// groupSession.
	member func(addr, group, topic string) (*exec.Cmd, error)
	// bySignal members leave their group on SIGTERM; others when their standard input
	// ends.
	bySignal bool
}

const (
	groupPartitions = 6
	groupSession    = 3 * time.Second
	groupHeartbeat  = 300 * time.Millisecond
	groupPause      = 400 * time.Millisecond // of members that are slow: more than a heartbeat
	// groupsAtOnce bounds the clients under test at a time: they spend most of it
	// waiting, but a machine has only so many cores.
	groupsAtOnce = 4
)

// groupSettings make a broker's groups quick.
func groupSettings() []string {
	return append(consumerProtocolSettings(), "group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=500")
}

// allGroupClients are the clients that the page in docs has rows for.
func allGroupClients(t *testing.T) []groupClient {
	return slices.Concat(
		goGroupClients(), []groupClient{kcatGroup()}, javaGroupClients(t), []groupClient{kafkaJSGroup(t)}, pythonGroupClients(t),
		oldGroupClients(t), consumerProtocolClients(t),
	)
}

// testGroups runs the clients side by side. It does without parallel subtests, of
// which there are only as many at a time as the machine has cores.
func testGroups(t *testing.T, clients []groupClient, seen *groupResults) {
	b := harness.Start(t, groupSettings()...)
	slots := make(chan struct{}, groupsAtOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range clients {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			c := &clients[i]
			t.Run(c.id(), func(t *testing.T) {
				harness.Need(t, c.needs...)
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				testGroup(ctx, t, b, c)
				seen.add(c, !t.Failed())
			})
		})
	}
}

func (c *groupClient) id() string {
	id := c.name + "-" + c.version
	if c.consumer {
		id += "-consumer"
	}
	return id
}

// present tells whether the machine has what the client needs.
func (c *groupClient) present() bool {
	return !slices.ContainsFunc(c.needs, func(command string) bool { return !installed(command) })
}

// testGroup lets three members, one of them slow, share a topic to which the client sends
// with each codec that it knows, kills another one and adds a fourth. Everything that was sent
// arrives. Nothing arrives again after its commit: what the guarantee at least once
// allows to come twice is what a member had read and not committed when it lost the
// partition.
func testGroup(ctx context.Context, t *testing.T, b *harness.Broker, c *groupClient) {
	topic := topicName("group", c.id())
	if _, err := b.Run(ctx, "", "topics", "create", topic, "--partitions", strconv.Itoa(groupPartitions)); err != nil {
		t.Fatal(err)
	}
	g := &groupRun{t: t, client: c, addr: b.Addr, topic: topic, ledger: newLedger()}
	defer g.killAll()
	first, second, third := g.join(ctx, "first", 0), g.join(ctx, "second", groupPause), g.join(ctx, "third", 0)
	g.sendUntilAllRead(ctx, first, second, third)
	g.ledger.setFloor(g.settle(ctx))

	// A member dies with records on their way to it, and another one joins.
	sent := g.sendLater(ctx)
	first.kill()
	fourth := g.join(ctx, "fourth", 0)
	g.check(<-sent)
	g.sendUntilAllRead(ctx, second, third, fourth)
	for range c.codecs {
		g.send(ctx)
	}
	g.settle(ctx)
	for _, m := range []*member{second, third, fourth} {
		if err := m.leave(ctx); err != nil {
			t.Errorf("member %s: %v", m.name, err)
		}
	}
	for _, problem := range g.ledger.judge(g.next, c.silent) {
		t.Error(problem)
	}
	g.checkLog(ctx)
}

// groupRun is one group at work.
type groupRun struct {
	t       *testing.T
	client  *groupClient
	addr    string
	topic   string
	ledger  *ledger
	members []*member
	next    int // the first number that was not sent
	rounds  int
}

func (g *groupRun) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *groupRun) group() string { return g.topic + "-group" }

func (g *groupRun) join(ctx context.Context, name string, pause time.Duration) *member {
	g.t.Helper()
	m, err := startMember(ctx, g.t, g.client, name, pause, g.addr, g.group(), g.topic, g.ledger)
	g.check(err)
	g.members = append(g.members, m)
	return m
}

func (g *groupRun) killAll() {
	for _, m := range g.members {
		m.kill()
	}
}

// sendLater sends a round in the background: two numbers to each partition, in the
// next codec.
func (g *groupRun) sendLater(ctx context.Context) <-chan error {
	const n = 2 * groupPartitions
	codec := g.client.codecs[g.rounds%len(g.client.codecs)]
	first := g.next
	g.next += n
	g.rounds++
	done := make(chan error, 1)
	go func() {
		err := g.client.send(ctx, g.addr, g.topic, codec, first, n)
		if err != nil {
			err = fmt.Errorf("send with %s: %w", codec, err)
		}
		done <- err
	}()
	return done
}

func (g *groupRun) send(ctx context.Context) {
	g.t.Helper()
	g.check(<-g.sendLater(ctx))
}

// sendUntilAllRead sends until each of the members has read something that was sent
// from now on.
func (g *groupRun) sendUntilAllRead(ctx context.Context, members ...*member) {
	g.t.Helper()
	since := g.next
	for {
		g.send(ctx)
		if g.ledger.await(ctx, 300*time.Millisecond, func(l *ledger) bool {
			return !slices.ContainsFunc(members, func(m *member) bool { return !l.hasRead(m.name, since) })
		}) {
			return
		}
		for _, m := range members {
			g.check(m.failure())
		}
		if ctx.Err() != nil {
			g.t.Fatalf("not every member has got records: %s", g.ledger)
		}
	}
}

// settle waits until everything that was sent has been read and is committed, and
// answers what is. A commit that failed because the group rebalanced is made good by the
// next one of its partition: where there is none, more is sent.
func (g *groupRun) settle(ctx context.Context) map[int32]int64 {
	g.t.Helper()
	for {
		g.awaitAll(ctx)
		ends := g.ends(ctx)
		for range 20 {
			committed := g.committed(ctx)
			if maps.Equal(committed, ends) {
				return committed
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				g.t.Fatalf("the partitions end at %v, committed is %v: %s", ends, committed, g.ledger)
			}
		}
		g.send(ctx)
	}
}

// awaitAll waits until everything that was sent has been read.
func (g *groupRun) awaitAll(ctx context.Context) {
	g.t.Helper()
	for !g.ledger.await(ctx, time.Second, func(l *ledger) bool { return len(l.missing(g.next)) == 0 }) {
		for _, m := range g.members {
			g.check(m.failure())
		}
		if ctx.Err() != nil {
			g.t.Fatalf("records are missing: %s, of %d: %v", g.ledger, g.next, g.ledger.missingNow(g.next))
		}
	}
}

// ends are the offsets at which the partitions end, which are as many as was sent.
func (g *groupRun) ends(ctx context.Context) map[int32]int64 {
	g.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.addr))
	g.check(err)
	defer cl.Close()
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, g.topic)
	g.check(err)
	g.check(listed.Error())
	ends, total := map[int32]int64{}, int64(0)
	listed.Each(func(o kadm.ListedOffset) {
		ends[o.Partition] = o.Offset
		total += o.Offset
	})
	if total != int64(g.next) || len(ends) != groupPartitions {
		g.t.Fatalf("%d records were sent, and the partitions end at %v", g.next, ends)
	}
	return ends
}

// committed asks with a client of the test's own.
func (g *groupRun) committed(ctx context.Context) map[int32]int64 {
	g.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.addr))
	g.check(err)
	defer cl.Close()
	offsets, err := kadm.NewClient(cl).FetchOffsets(ctx, g.group())
	g.check(err)
	out := map[int32]int64{}
	offsets.Each(func(o kadm.OffsetResponse) {
		g.check(o.Err)
		if o.Topic == g.topic {
			out[o.Partition] = o.At
		}
	})
	return out
}

// checkLog sees that what was committed stays so when the members have left, and that the
// log has every codec.
func (g *groupRun) checkLog(ctx context.Context) {
	g.t.Helper()
	if committed, ends := g.committed(ctx), g.ends(ctx); !maps.Equal(committed, ends) {
		g.t.Errorf("the partitions end at %v, committed is %v", ends, committed)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.addr), kgo.ConsumeTopics(g.topic), kgo.FetchMaxWait(maxWait))
	g.check(err)
	defer cl.Close()
	used := map[string]bool{}
	for n := 0; n < g.next; {
		fetches := cl.PollFetches(ctx)
		g.check(ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			used[allCodecs()[r.Attrs.CompressionType()]] = true
			n++
		})
	}
	for _, codec := range g.client.codecs {
		if !used[codec] {
			g.t.Errorf("no batch is compressed with %s", codec)
		}
	}
}

// groupValue is what number i is sent as: long enough to be worth compressing.
func groupValue(i int) string { return strconv.Itoa(i) + " " + strings.Repeat("millrace ", 20) }

// groupResults are the clients that passed, for the page in docs.
type groupResults struct {
	mu     sync.Mutex
	passed map[string]bool
}

func (r *groupResults) add(c *groupClient, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.passed == nil {
		r.passed = map[string]bool{}
	}
	r.passed[c.id()] = ok
}
