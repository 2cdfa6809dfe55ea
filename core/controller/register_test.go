package controller_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/tree"
)

func registration() controller.Registration {
	return controller.Registration{
		Broker:  metadata.Broker{ID: 5, Endpoints: []metadata.Endpoint{{Listener: "L", Protocol: "PLAINTEXT", Host: "h", Port: 1}}},
		JMXPort: -1, Wait: 20 * time.Second, Clock: core.SystemClock{},
	}
}

func TestRegister(t *testing.T) {
	in(t, 0, func(t *testing.T, c *cluster) {
		ctx := context.Background()
		old, s := c.session(), c.session()
		defer closing(t, s)
		if err := tree.Bootstrap(ctx, old); err != nil {
			t.Fatal(err)
		}
		id, err := tree.ClusterID(ctx, old)
		if again, err2 := tree.ClusterID(ctx, s); err != nil || err2 != nil || again != id || len(id) != 22 {
			t.Errorf("cluster ids %q and %q, %v, %v", id, again, err, err2)
		}
		first, err := controller.Register(ctx, old, registration())
		if err != nil {
			t.Fatal(err)
		}
		if again, err := controller.Register(ctx, old, registration()); err != nil || again != first {
			t.Errorf("registered twice in one session: %d and %d, %v", first, again, err)
		}

		// The broker restarts; its old session lasts a while longer.
		time.AfterFunc(10*time.Second, func() { _ = c.coord.Expire(old.ID()) })
		begin := time.Now()
		second, err := controller.Register(ctx, s, registration())
		if err != nil || second <= first || time.Since(begin) != 10*time.Second {
			t.Errorf("epoch %d after %d, after %s: %v", second, first, time.Since(begin), err)
		}

		// Another broker of that id lives.
		third := c.session()
		defer closing(t, third)
		if _, err = controller.Register(ctx, third, registration()); !errors.Is(err, core.ErrNodeExists) || !strings.Contains(err.Error(), "L://h:1") {
			t.Errorf("a second broker of that id got %v", err)
		}
		done := make(chan error)
		go func() {
			_, err := controller.Register(ctx, third, registration())
			done <- err
		}()
		synctest.Wait()
		if err := c.coord.Expire(third.ID()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, core.ErrSessionLost) {
			t.Errorf("a lost session: %v", err)
		}
	})
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	t.Parallel()
	if _, err := controller.New(controller.Config{}); !errors.Is(err, core.ErrInvalidConfig) {
		t.Error(err)
	}
}
