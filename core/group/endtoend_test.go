package group_test

import (
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestClientGroup: three clients of one group read a topic; one leaves in the middle,
// another comes. Nothing is missing, and after a restart on the same disk a new member
// goes on where the group has stopped. The clock is not the machine's, and no partition
// moves between a poll and its marks.
func TestClientGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testClientGroup)
}

func testClientGroup(t *testing.T) {
	w := newCrew(t)
	w.begin()
	producer := w.producer()
	member := func() (stop func()) {
		c := w.member(kgo.AutoCommitMarks())
		w.members.Go(func() {
			w.work(w.ctx, c, func(fs kgo.Fetches) { c.MarkCommitRecords(fs.Records()...) })
		})
		return func() {
			if err := c.CommitMarkedOffsets(w.ctx); err != nil {
				t.Error(err)
			}
			c.CloseAllowingRebalance()
		}
	}
	stops := []func(){member(), member(), member()}
	w.produce(producer)
	w.until()
	stops[0]()
	stops[0] = member()
	w.produce(producer)
	w.until()
	for _, stop := range stops {
		stop()
	}
	w.members.Wait()
	lag, err := kadm.NewClient(producer).Lag(w.ctx, "workers")
	if err != nil {
		t.Fatal(err)
	}
	if g := lag["workers"]; g.Error() != nil || g.State != "Empty" || g.Lag.Total() != 0 {
		t.Errorf("after all have left: state %s, lag %d, error %v", g.State, g.Lag.Total(), g.Error())
	}
	producer.Close()
	w.end()
	w.begin()
	again := w.client(kgo.DefaultProduceTopic("work"))
	defer again.Close()
	stop := member()
	w.produce(again)
	w.until()
	stop()
	w.once()
}
