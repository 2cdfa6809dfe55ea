package controller_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
)

// The configurations of groups: any id, whether there is such a group or not, on every
// broker, over a restart; one that is empty again leaves no node.
func TestAlterGroupConfigs(t *testing.T) {
	in(t, 2, func(t *testing.T, c *cluster) {
		b := c.brokers[1]
		alter := func(what string, want *kerr.Error, a controller.ConfigAlteration) {
			t.Helper()
			a.Type = controller.GroupResource
			wantCode(t, what, b.ctl.AlterConfigs(within(t, time.Minute), []controller.ConfigAlteration{a}, false)[0], want)
		}
		set := func(name, value string) []controller.ConfigChange {
			return []controller.ConfigChange{{Name: name, Value: &value}}
		}
		has := func(what string, on *broker, entity string, want map[string]string) {
			t.Helper()
			if got := get(on, func() map[string]string { return on.configs[entity] }); !cmp.Equal(got, want) {
				t.Errorf("%s: the broker has %v", what, got)
			}
		}
		const odd = "billing/eu <v2>"
		for _, group := range []string{odd, "..", strings.Repeat("ö", 16383)} {
			alter("set", nil, controller.ConfigAlteration{Name: group, Changes: set("a", "1")})
		}
		has("right after the call", b, "groups/billing%2Feu%20%3Cv2%3E", map[string]string{"a": "1"})
		alter("add", nil, controller.ConfigAlteration{Name: odd, Changes: set("b", "2")})
		synctest.Wait()
		has("elsewhere", c.brokers[0], "groups/billing%2Feu%20%3Cv2%3E", map[string]string{"a": "1", "b": "2"})
		alter("replace", nil, controller.ConfigAlteration{Name: odd, Replace: true, Changes: set("c", "3")})
		has("replaced", b, "groups/billing%2Feu%20%3Cv2%3E", map[string]string{"c": "3"})

		alter("no group", kerr.InvalidRequest, controller.ConfigAlteration{Changes: set("a", "1")})
		alter("too long", kerr.InvalidGroupID, controller.ConfigAlteration{Name: strings.Repeat("g", 1<<15), Changes: set("a", "1")})
		alter("unknown setting", kerr.InvalidConfig, controller.ConfigAlteration{Name: odd, Changes: set("no.such", "1")})

		c.stop(1)
		b = c.start(1)
		if err := b.feed.Loaded(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		has("after a restart", b, "groups/billing%2Feu%20%3Cv2%3E", map[string]string{"c": "3"})

		tool := c.session()
		defer closing(t, tool)
		gone := func(what, path string) {
			t.Helper()
			if _, err := tool.Get(context.Background(), path); !errors.Is(err, core.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		alter("delete", nil, controller.ConfigAlteration{Name: odd, Changes: []controller.ConfigChange{{Name: "c", Op: controller.ConfigDelete}}})
		has("right after the deletion", b, "groups/billing%2Feu%20%3Cv2%3E", map[string]string{})
		gone("deleted", "/config/groups/billing%2Feu%20%3Cv2%3E")
		alter("replace by nothing", nil, controller.ConfigAlteration{Name: "..", Replace: true})
		gone("replaced by nothing", "/config/groups/%2E%2E")
		alter("delete nothing", nil, controller.ConfigAlteration{Name: "new", Changes: []controller.ConfigChange{{Name: "c", Op: controller.ConfigDelete}}})
		gone("never there", "/config/groups/new")
		alter("set again", nil, controller.ConfigAlteration{Name: "..", Changes: set("a", "2")})
		has("set again", b, "groups/%2E%2E", map[string]string{"a": "2"})
	})
}
