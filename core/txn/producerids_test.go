package txn_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/txn"
)

const blockPath = "/latest_producer_id_block"

func openTree(t *testing.T) core.CoordinatorSession {
	t.Helper()
	c, err := embedded.Open(t.Context(), embedded.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func always(s core.CoordinatorSession) txn.Sessions {
	return func(context.Context) (core.CoordinatorSession, error) { return s, nil }
}

func next(t *testing.T, p *txn.ProducerIDs) int64 {
	t.Helper()
	id, err := p.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestBlocksAreKafkas(t *testing.T) {
	t.Parallel()
	s := openTree(t)
	p := txn.NewProducerIDs(7, always(s))
	for want := range int64(1001) {
		if got := next(t, p); got != want {
			t.Fatalf("id %d, want %d", got, want)
		}
	}
	n, err := s.Get(t.Context(), blockPath)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":1,"broker":7,"block_start":"1000","block_end":"1999"}`
	if string(n.Data) != want {
		t.Errorf("node holds %s, want %s", n.Data, want)
	}
}

func TestContinuesAfterWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data string
		want int64
		err  error
	}{
		"empty node":  {data: "", want: 0},
		"kafka's":     {data: `{"version":1,"broker":1,"block_start":"5000","block_end":"5999"}`, want: 6000},
		"other size":  {data: `{"version":1,"broker":1,"block_start":"0","block_end":"9"}`, want: 10},
		"exhausted":   {data: `{"version":1,"broker":1,"block_start":"9223372036854774808","block_end":"9223372036854775807"}`, err: txn.ErrNoProducerIDs},
		"impossible":  {data: `{"version":1,"broker":1,"block_start":"10","block_end":"9"}`, err: core.ErrCorrupt},
		"not numbers": {data: `{"version":1,"broker":1,"block_start":10,"block_end":"x"}`, err: errAny},
		"garbage":     {data: `hello`, err: errAny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openTree(t)
			if _, err := s.Commit(t.Context(), core.Create(blockPath, []byte(tc.data))); err != nil {
				t.Fatal(err)
			}
			id, err := txn.NewProducerIDs(1, always(s)).Next(t.Context())
			switch {
			case tc.err == nil && err != nil, tc.err != nil && err == nil:
				t.Fatalf("Next: %v", err)
			case tc.err != nil && tc.err != errAny && !errors.Is(err, tc.err): //nolint:errorlint // errAny is a mark, never wrapped
				t.Fatalf("Next: %v, want %v", err, tc.err)
			case tc.err == nil && id != tc.want:
				t.Fatalf("id %d, want %d", id, tc.want)
			}
		})
	}
}

var errAny = errors.New("any error")

// Several brokers with several users each never hand out an id twice.
func TestUnique(t *testing.T) {
	t.Parallel()
	s := openTree(t)
	const brokers, users, each = 4, 3, 900
	var mu sync.Mutex
	var all []int64
	var wg sync.WaitGroup
	for b := range int32(brokers) {
		p := txn.NewProducerIDs(b, always(s))
		for range users {
			wg.Go(func() {
				ids := make([]int64, 0, each)
				for range each {
					id, err := p.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					ids = append(ids, id)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, ids...)
			})
		}
	}
	wg.Wait()
	slices.Sort(all)
	if got := len(slices.Compact(all)); got != brokers*users*each {
		t.Errorf("%d different ids, want %d", got, brokers*users*each)
	}
}

// unsure answers the first commit with ErrOutcomeUnknown, having done it or not.
type unsure struct {
	core.CoordinatorSession
	did   bool
	asked bool
}

func (u *unsure) Commit(ctx context.Context, ops ...core.Op) ([]core.OpResult, error) {
	if u.asked {
		return u.CoordinatorSession.Commit(ctx, ops...)
	}
	u.asked = true
	if u.did {
		if _, err := u.CoordinatorSession.Commit(ctx, ops...); err != nil {
			return nil, err
		}
	}
	return nil, core.ErrOutcomeUnknown
}

func TestOutcomeUnknownNeverReusesABlock(t *testing.T) {
	t.Parallel()
	for did, want := range map[bool]int64{false: 0, true: 1000} {
		p := txn.NewProducerIDs(1, always(&unsure{CoordinatorSession: openTree(t), did: did}))
		if got := next(t, p); got != want {
			t.Errorf("committed %v: id %d, want %d", did, got, want)
		}
	}
}

func TestLostSession(t *testing.T) {
	t.Parallel()
	s := openTree(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p := txn.NewProducerIDs(1, always(s))
	if _, err := p.Next(t.Context()); !errors.Is(err, core.ErrSessionLost) {
		t.Errorf("Next: %v, want %v", err, core.ErrSessionLost)
	}
}

func TestContextEndsTheWaitForAnother(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	s := openTree(t)
	p := txn.NewProducerIDs(1, func(context.Context) (core.CoordinatorSession, error) {
		close(entered)
		<-release
		return s, nil
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Next(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v, want %v", err, context.Canceled)
	}
	close(release)
	wg.Wait()
}
