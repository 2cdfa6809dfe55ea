package broker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// TestLogDirsAreToldOf: a notification that cannot be written is tried again, and those
// that come together are one.
func TestLogDirsAreToldOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, err := embedded.Open(t.Context(), embedded.Options{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Bootstrap(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		tries := 0
		d := newLogDirs(7, func(context.Context) (core.CoordinatorSession, error) {
			if tries++; tries < 3 {
				return nil, errors.New("no link")
			}
			return s, nil
		}, core.SystemClock{}, slog.New(slog.DiscardHandler))
		d.start()
		told := func(want int) {
			t.Helper()
			synctest.Wait()
			names, _, err := s.Children(t.Context(), tree.LogDirEventsPath)
			if err != nil || len(names) != want {
				t.Fatalf("%d notifications, want %d; %v", len(names), want, err)
			}
			for _, name := range names {
				node, err := s.Get(t.Context(), tree.LogDirEventsPath+"/"+name)
				if err != nil {
					t.Fatal(err)
				}
				if id, err := tree.DecodeLogDirEvent(node.Data); err != nil || id != 7 {
					t.Errorf("the notification is of broker %d; %v", id, err)
				}
			}
		}
		told(0)
		for range 5 {
			d.changed()
		}
		told(0)
		time.Sleep(logDirsRetry)
		told(0)
		time.Sleep(logDirsRetry)
		told(1)
		d.changed()
		told(2)
		d.close()
		d.changed()
		told(2)
		if err := errors.Join(s.Close(), k.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
