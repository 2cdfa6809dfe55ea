package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/mmap"
)

// onDisk is a broker over a directory.
func onDisk(t testing.TB, dir string, s setup) *broker {
	t.Helper()
	if s.clock == nil {
		s.clock = newClock()
	}
	st, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{dir}, Clock: s.clock})
	if err != nil {
		t.Fatal(err)
	}
	s.storage = st
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close the storage: %v", err)
		}
	})
	return start(t, s)
}

// stopAll ends a broker as SIGTERM does.
func (b *broker) stopAll() {
	b.t.Helper()
	if err := b.Close(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	if err := b.storage.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// killed is a copy of a directory as it is now: what SIGKILL would leave. Files come
// and go while it is made; a copy that missed one is made anew.
func killed(t *testing.T, dir string) string {
	t.Helper()
	const attempts = 100
	for n := range attempts {
		to := filepath.Join(t.TempDir(), "copy"+strconv.Itoa(n))
		err := copyTree(to, dir)
		if err == nil {
			return to
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no copy of %s was whole in %d attempts", dir, attempts)
	return ""
}

func copyTree(to, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]bool{"clean": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			id := core.TopicID{5}
			cfg := topicConfig()
			cfg.SegmentBytes = 2000
			b := onDisk(t, dir, setup{topic: cfg})
			if codes := b.apply(id, state(0, self, 4, self)); codes[0] != 0 {
				t.Fatal(codes)
			}
			p, _ := b.Partition(topic, 0)
			for i := range int32(30) { // over several segments
				produce(t, p, from(7, 1, i*2, 2))
			}
			produce(t, p, from(8, 0, 40, 3))
			if _, err := p.DeleteRecords(t.Context(), 5); err != nil {
				t.Fatal(err)
			}
			if crash {
				dir = killed(t, dir)
			} else {
				b.stopAll()
			}

			b = onDisk(t, dir, setup{topic: cfg})
			p, ok := b.Partition(topic, 0)
			if !ok {
				t.Fatal("the partition was not loaded")
			}
			if _, err := b.Leader(topic, 0); code(err) != kerr.NotLeaderForPartition.Code {
				t.Errorf("look-up before the controller has spoken: %v", err)
			}
			start, end := p.Bounds()
			if start != 5 || end != 63 || p.TopicID() != id {
				t.Errorf("start %d, end %d, topic id %s", start, end, p.TopicID())
			}
			if hw := p.HighWatermark(); !crash && hw != 63 || hw < start || hw > end {
				t.Errorf("high watermark %d", hw)
			}
			if codes := b.apply(core.TopicID{6}, state(0, self, 5, self)); codes[0] != kerr.InconsistentTopicID.Code {
				t.Errorf("another topic of the same name: %v", codes)
			}
			if codes := b.apply(id, state(0, self, 5, self)); codes[0] != 0 {
				t.Fatal(codes)
			}
			if hw := p.HighWatermark(); hw != 63 {
				t.Errorf("high watermark %d of the only replica", hw)
			}
			if res := produce(t, p, from(7, 1, 58, 2)); !res.Duplicate || res.Base != 58 {
				t.Errorf("the last batch again: %+v", res)
			}
			if res := produce(t, p, from(8, 0, 40, 3)); !res.Duplicate || res.Base != 60 {
				t.Errorf("the other producer's last batch again: %+v", res)
			}
			_, err := p.Append(t.Context(), replica.AppendRequest{Batches: from(7, 1, 61, 1), Version: 9})
			if code(err) != kerr.OutOfOrderSequenceNumber.Code {
				t.Errorf("a gap: %v", err)
			}
			if res := produce(t, p, from(7, 1, 60, 1)); res.Base != 63 {
				t.Errorf("the next batch: %+v", res)
			}
			if e, err := p.EpochEnd(-1, 4); err != nil || e != (replica.EpochEnd{Epoch: 4, EndOffset: 63}) {
				t.Errorf("end of the epoch before: %+v, %v", e, err)
			}
			want := make([]int64, 0, 59)
			for o := int64(5); o < 64; o++ {
				want = append(want, o)
			}
			got := fetched(t, p, 5, replica.ReadUncommitted)
			if got[0] == 4 { // the batch of 4 and 5 is whole
				got = got[1:]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			snapshots, err := filepath.Glob(filepath.Join(dir, topic+"-0", "*.snapshot"))
			if err != nil || len(snapshots) == 0 || len(snapshots) > 4 {
				t.Errorf("snapshots left: %v, %v", snapshots, err)
			}
		})
	}
}

// TestTornTail cuts the log and sees that everything kept about it goes back too.
func TestTornTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := onDisk(t, dir, setup{})
	p := b.lead(1)
	produce(t, p, from(7, 0, 0, 2))
	p = b.lead(2)
	produce(t, p, from(7, 0, 2, 2))
	dir = killed(t, dir)
	logs, err := filepath.Glob(filepath.Join(dir, topic+"-0", "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	data, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	bs := record.Batches(data)
	first, rest, _ := bs.Next()
	second, _, _ := rest.Next()
	if err := os.WriteFile(logs[0], data[:len(first)+len(second)-1], 0o600); err != nil {
		t.Fatal(err)
	}

	b = onDisk(t, dir, setup{})
	epochs, err := os.ReadFile(filepath.Join(dir, topic+"-0", "leader-epoch-checkpoint"))
	if err != nil || string(epochs) != "0\n1\n1 0\n" {
		t.Errorf("leader epochs %q, %v: one of them has no records any more", epochs, err)
	}
	p = b.lead(3)
	if _, end := p.Bounds(); end != 2 {
		t.Fatalf("the log ends at %d", end)
	}
	if e, err := p.EpochEnd(-1, 2); err != nil || e != (replica.EpochEnd{Epoch: 1, EndOffset: 2}) {
		t.Errorf("an epoch without records: %+v, %v", e, err)
	}
	if res := produce(t, p, from(7, 0, 2, 2)); res.Duplicate || res.Base != 2 {
		t.Errorf("what was cut off can be sent again: %+v", res)
	}
}

// TestDamagedState breaks what is kept beside the log: it is made again from the
// log.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := onDisk(t, dir, setup{})
	p := b.lead(1)
	produce(t, p, from(7, 0, 0, 2))
	p = b.lead(5)
	produce(t, p, from(7, 0, 2, 2))
	b.stopAll()
	damaged := 0
	files, err := os.ReadDir(filepath.Join(dir, topic+"-0"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".snapshot") || f.Name() == "leader-epoch-checkpoint" {
			damaged++
			if err := os.WriteFile(filepath.Join(dir, topic+"-0", f.Name()), []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if damaged != 2 {
		t.Fatalf("damaged %d files of %v", damaged, files)
	}
	b = onDisk(t, dir, setup{})
	p = b.lead(6)
	if res := produce(t, p, from(7, 0, 0, 2)); !res.Duplicate || res.Base != 0 {
		t.Errorf("a duplicate: %+v", res)
	}
	if e, err := p.EpochEnd(-1, 1); err != nil || e != (replica.EpochEnd{Epoch: 1, EndOffset: 2}) {
		t.Errorf("end of epoch 1: %+v, %v", e, err)
	}
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentBytes = 300
	b := onDisk(t, t.TempDir(), setup{topic: cfg})
	p := b.lead(1, self, 2)
	for i := range int32(10) {
		produce(t, p, from(7, 0, i*2, 2))
	}
	p = b.lead(2, self, 2)
	produce(t, p, from(8, 0, 0, 2))
	p.RecordFollower(2, 7, 0)
	if _, err := p.TruncateTo(t.Context(), 5); err == nil {
		t.Error("a leader's log was truncated")
	}
	b.apply(core.TopicID{}, state(0, 2, 3, self, 2))
	if end, err := p.TruncateTo(t.Context(), 15); err != nil || end != 14 {
		t.Fatalf("truncated to %d, %v", end, err)
	}
	if hw := p.HighWatermark(); hw != 7 {
		t.Errorf("high watermark %d", hw)
	}
	p = b.lead(4)
	if e, _ := p.EpochEnd(-1, 2); e != (replica.EpochEnd{Epoch: 1, EndOffset: 14}) {
		t.Errorf("the epoch that was cut off: %+v", e)
	}
	if res := produce(t, p, from(7, 0, 12, 2)); !res.Duplicate || res.Base != 12 {
		t.Errorf("the batch before the cut: %+v", res)
	}
	if res := produce(t, p, from(7, 0, 14, 2)); res.Duplicate || res.Base != 14 {
		t.Errorf("the first that was cut off: %+v", res)
	}
	got, _ := p.Producers()
	if len(got) != 1 {
		t.Errorf("producers %+v: one was cut off", got)
	}
}

// TestRandomRestarts appends as several producers do that send everything twice,
// through clean restarts and kills: nothing acknowledged is lost, nothing is there
// twice.
func TestRandomRestarts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 7))
			cfg := topicConfig()
			cfg.SegmentBytes = 4000
			dir := t.TempDir()
			b := onDisk(t, dir, setup{topic: cfg})
			epoch := int32(0)
			p := b.lead(epoch)
			type sent struct {
				batch record.Batches
				base  int64
			}
			last := map[int64]sent{}
			next := map[int64]int32{}
			end := int64(0)
			for range 400 {
				id := int64(rnd.IntN(3))
				switch n := rnd.IntN(40); {
				case n == 0:
					b.stopAll()
				case n == 1:
					dir = killed(t, dir)
				case n < 12:
					if s, ok := last[id]; ok {
						if res := produce(t, p, slices.Clone(s.batch)); !res.Duplicate || res.Base != s.base {
							t.Fatalf("a duplicate of the batch at %d: %+v", s.base, res)
						}
					}
					continue
				default:
					n := 1 + rnd.IntN(5)
					batch := from(id, 0, next[id], n)
					keep := slices.Clone(batch)
					res := produce(t, p, batch)
					if res.Duplicate || res.Base != end {
						t.Fatalf("the log ends at %d, and the batch is at %+v", end, res)
					}
					last[id], next[id], end = sent{keep, end}, next[id]+int32(n), end+int64(n)
					continue
				}
				b = onDisk(t, dir, setup{topic: cfg})
				epoch++
				p = b.lead(epoch)
			}
			if got := fetched(t, p, 0, replica.ReadUncommitted); int64(len(got)) != end || !slices.IsSorted(got) {
				t.Errorf("%d records of %d", len(got), end)
			}
		})
	}
}
