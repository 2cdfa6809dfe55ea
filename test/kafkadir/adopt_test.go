package kafkadir_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// TestMillraceAdoptsKafkasDirectory moves a directory from Kafka to Millrace and back:
// each finds what the other has written, as after a clean stop of its own, and writes
// more.
func TestMillraceAdoptsKafkasDirectory(t *testing.T) {
	t.Parallel()
	classPath(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	home, dir := t.TempDir(), t.TempDir()
	w := written{}

	k := startKafka(t, home, dir)
	cl := client(t, k.addr)
	createTopics(ctx, t, cl)
	produce(ctx, t, k.addr, 1, w)
	trim(ctx, t, cl, 155, w)
	transact(ctx, t, k.addr, w)
	commitOffset(ctx, t, cl)
	k.stop()
	identity := identityOf(t, dir)
	if r := harness.Millrace(ctx, t, "", append([]string{"dump-log", "--verify-only"},
		files(t, dir, ".log", ".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint", "partition.metadata")...)...); r.Code != 0 {
		t.Errorf("dump-log finds fault with what Kafka has written: %s", r.Stderr)
	}

	wrecked, wreckedHas := t.TempDir(), w.clone()
	if err := os.CopyFS(wrecked, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}

	settings := []string{"broker.id=7", "log.level=debug"}
	b := harness.StartIn(t, dir, "127.0.0.1:0", settings...)
	consume(ctx, t, b.Addr, w)
	produce(ctx, t, b.Addr, 2, w)
	consume(ctx, t, b.Addr, w)
	b.Stop()
	if !strings.Contains(b.Log(), `"adopted a topic"`) {
		t.Error("no topic was adopted")
	}
	noRecovery(t, b)
	b = b.Restart(settings...)
	consume(ctx, t, b.Addr, w)
	trim(ctx, t, client(t, b.Addr), 177, w)
	b.Stop()
	if strings.Contains(b.Log(), `"adopted a topic"`) {
		t.Error("topics were adopted again at the second start")
	}
	noRecovery(t, b)
	if got := identityOf(t, dir); got != identity {
		t.Errorf("the directory has become another one:\n%s\nwas\n%s", got, identity)
	}

	t.Run("without what can be rebuilt", func(t *testing.T) { adoptWrecked(ctx, t, wrecked, wreckedHas) })

	k = startKafka(t, home, dir)
	k.skipsRecovery()
	consume(ctx, t, k.addr, w)
	produce(ctx, t, k.addr, 3, w)
	consume(ctx, t, k.addr, w)
	offsets, err := kadm.NewClient(client(t, k.addr)).FetchOffsets(ctx, "readers")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := offsets.Lookup("plain", 0); !ok || o.At != 42 {
		t.Errorf("the group's offset is %+v, want 42", o)
	}
	k.stop()
	for _, c := range k.complaints() {
		t.Errorf("Kafka complains: %s", c)
	}
}

// adoptWrecked takes everything off Kafka's directory that follows from the batches:
// Millrace makes it anew, and Kafka's tool judges it.
func adoptWrecked(ctx context.Context, t *testing.T, dir string, w written) {
	aborted := map[string]string{}
	for _, f := range files(t, dir, ".txnindex") {
		if index := read(t, f); index != "" {
			aborted[f] = index
		}
	}
	if len(aborted) == 0 {
		t.Error("Kafka has written no index of aborted transactions")
	}
	gone := files(t, dir, ".index", ".timeindex", ".txnindex", ".snapshot", "leader-epoch-checkpoint")
	for _, name := range []string{".kafka_cleanshutdown", "recovery-point-offset-checkpoint", "replication-offset-checkpoint"} {
		gone = append(gone, filepath.Join(dir, name))
	}
	for _, f := range gone {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	b := harness.StartIn(t, dir, "127.0.0.1:0", "broker.id=7")
	consume(ctx, t, b.Addr, w)
	b.Stop()
	for f, want := range aborted {
		if got := read(t, f); got != want {
			t.Errorf("%s is %x, Kafka had written %x", f, got, want)
		}
	}
	logs := files(t, dir, ".log")
	indexes := files(t, dir, ".index", ".timeindex")
	if len(indexes) != 2*len(logs) {
		t.Errorf("%d indexes of %d logs", len(indexes), len(logs))
	}
	sound(t, dumpLogSegments(t, slices.Concat(indexes, files(t, dir, ".snapshot")), "--deep-iteration"))
	for _, f := range files(t, dir, "leader-epoch-checkpoint") {
		if !strings.HasPrefix(read(t, f), "0\n1\n0 ") {
			t.Errorf("%s is %q", f, read(t, f))
		}
	}
}

// noRecovery expects that every log was found as a clean stop leaves it.
func noRecovery(t *testing.T, b *harness.Broker) {
	t.Helper()
	for line := range strings.Lines(b.Log()) {
		for _, bad := range []string{`"level":"ERROR"`, "recovered a log", "rebuilt", "cut what", "unreadable", "is ignored"} {
			if strings.Contains(line, bad) {
				t.Errorf("Millrace: %s", line)
			}
		}
	}
}

// transact commits a transaction and aborts one, each with records to two topics of
// which only the first becomes visible.
func transact(ctx context.Context, t *testing.T, addr string, w written) {
	t.Helper()
	cl := client(t, addr, kgo.TransactionalID("kafkadir"))
	defer cl.Close()
	for _, commit := range []bool{true, false, true} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var records []*kgo.Record
		for _, topic := range []string{"plain", "zstd"} {
			records = append(records, &kgo.Record{Topic: topic, Key: []byte("in a transaction"), Value: []byte("value"), Timestamp: time.UnixMilli(time.Now().UnixMilli())})
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatalf("produce in a transaction: %v", err)
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
			t.Fatalf("end a transaction: %v", err)
		}
		if commit {
			w.add(records...)
		}
	}
}

func commitOffset(ctx context.Context, t *testing.T, cl *kgo.Client) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "plain", Partition: 0, At: 42, LeaderEpoch: -1})
	if err := kadm.NewClient(cl).CommitAllOffsets(ctx, "readers", offsets); err != nil {
		t.Fatalf("commit an offset: %v", err)
	}
}

// identityOf is what must not change: cluster, broker and the topics' ids.
func identityOf(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(read(t, filepath.Join(dir, "meta.properties"))) {
		if name, _, ok := strings.Cut(line, "="); ok && (name == "cluster.id" || name == "broker.id") {
			all.WriteString(line)
		}
	}
	for _, f := range files(t, dir, "partition.metadata") {
		all.WriteString(filepath.Base(filepath.Dir(f)) + " " + read(t, f) + "\n")
	}
	return all.String()
}

// TestLostTree starts a broker whose coordination tree is gone: the logs have what is
// needed to begin another one.
func TestLostTree(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b := harness.Start(t)
	createTopics(ctx, t, client(t, b.Addr))
	w := written{}
	produce(ctx, t, b.Addr, 1, w)
	b.Stop()
	identity := identityOf(t, b.Dir)
	loseTree(t, b.Dir)

	b = b.Restart()
	consume(ctx, t, b.Addr, w)
	// A new producer's id must not be one that the logs know.
	produce(ctx, t, b.Addr, 2, w)
	consume(ctx, t, b.Addr, w)
	configs, err := kadm.NewClient(client(t, b.Addr)).DescribeTopicConfigs(ctx, "plain")
	if err != nil {
		t.Fatal(err)
	}
	bounds := 0
	for _, c := range configs[0].Configs {
		if c.Key != "retention.ms" && c.Key != "retention.bytes" {
			continue
		}
		if bounds++; *c.Value != "-1" {
			t.Errorf("%s of an adopted topic is %s, want -1", c.Key, *c.Value)
		}
	}
	if bounds != 2 {
		t.Errorf("%d of the two bounds of retention were described", bounds)
	}
	b.Stop()
	if got := identityOf(t, b.Dir); got != identity {
		t.Errorf("the directory has become another one:\n%s\nwas\n%s", got, identity)
	}
}

// TestNotWhole expects that a broker refuses to begin a cluster with a part of one,
// and says what to do.
func TestNotWhole(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b := harness.Start(t)
	if _, err := kadm.NewClient(client(t, b.Addr)).CreateTopic(ctx, 3, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	b.Stop()
	loseTree(t, b.Dir)
	if err := os.RemoveAll(filepath.Join(b.Dir, "orders-1")); err != nil {
		t.Fatal(err)
	}
	r := harness.Millrace(ctx, t, "", b.Args...)
	if r.Code == 0 || !strings.Contains(r.Stderr, "there is a partition orders-2 and no orders-1") {
		t.Errorf("exit code %d\n%s", r.Code, r.Stderr)
	}
	// A partition of another topic that had the same name.
	metadata := filepath.Join(b.Dir, "orders-2", "partition.metadata")
	id := read(t, metadata)
	other := "version: 0\ntopic_id: AAAAAAAAQACAAAAAAAAAAQ"
	for _, dir := range []string{"orders-1", "orders-2"} {
		if err := os.MkdirAll(filepath.Join(b.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(metadata, []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	r = harness.Millrace(ctx, t, "", b.Args...)
	if r.Code == 0 || !strings.Contains(r.Stderr, "partition orders-2 has the topic id AAAAAAAAQACAAAAAAAAAAQ") {
		t.Errorf("exit code %d\n%s", r.Code, r.Stderr)
	}
	if err := os.WriteFile(metadata, []byte(id), 0o644); err != nil {
		t.Fatal(err)
	}
	// As the first message says: an empty directory stands for an empty partition.
	b = b.Restart()
	details, err := kadm.NewClient(client(t, b.Addr)).ListTopics(ctx, "orders")
	if err != nil || details.Error() != nil {
		t.Fatal(errors.Join(err, details.Error()))
	}
	for n := range int32(3) {
		if p, ok := details["orders"].Partitions[n]; !ok || p.Leader != 0 || p.Err != nil {
			t.Errorf("partition %d is led by broker %d: %v", n, p.Leader, p.Err)
		}
	}
	b.Stop()
}

// loseTree removes the files of the embedded coordinator.
func loseTree(t *testing.T, dir string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "coordination*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no coordination files in %s: %v", dir, err)
	}
	for _, f := range found {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}
