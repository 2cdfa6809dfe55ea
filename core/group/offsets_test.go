package group_test

import (
	"testing"
	"testing/synctest"
)

func TestCommitFetchRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.expect("nobody")
		n.commit("g", at{"a", 0, 5}, at{"b", 3, 7}, at{"a", 1, 1})
		n.commit("g", at{"a", 0, 6})
		want := []at{{"a", 0, 6}, {"a", 1, 1}, {"b", 3, 7}}
		n.expect("g", want...)
		n.restart()
		n.expect("g", want...)
		n.commit("g", at{"a", 0, 2})
		n.lead(2)
		n.lead(self)
		n.expect("g", at{"a", 0, 2}, at{"a", 1, 1}, at{"b", 3, 7})
	})
}
