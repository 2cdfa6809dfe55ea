package host_test

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/storage/retention"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

// TestFallbackOfEachKind: a plugin for several seams has a built-in for each of them, and
// where none is set the seam's own.
func TestFallbackOfEachKind(t *testing.T) {
	t.Parallel()
	views := retentiontest.Views(7, 200)
	builtin, err := retention.TimeSize{}.Decide(t.Context(), views)
	if err != nil || len(builtin) == 0 {
		t.Fatalf("%d decisions of the built-in, %v", len(builtin), err)
	}
	rs, topic := records()
	byMurmur, byFNV := make([]int32, len(rs)), make([]int32, len(rs))
	if err := partitioners.NewMurmur2(partitioners.Options{}).Partition(t.Context(), topic, rs, byMurmur); err != nil {
		t.Fatal(err)
	}
	if err := partitioners.NewFNV1a(partitioners.Options{}).Partition(t.Context(), topic, rs, byFNV); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(byMurmur, byFNV) {
		t.Fatal("the records do not tell the two partitioners apart")
	}
	for set, want := range map[string]struct {
		places  []int32 // nil: an error
		decides bool
	}{
		"":                 {byMurmur, false},
		"none":             {nil, false},
		"fnv1a":            {byFNV, false},
		"time-size":        {byMurmur, true},
		"none,time-size":   {nil, true},
		"time-size, fnv1a": {byFNV, true},
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			h, _ := mustOpen(t, settings(t, "refuse", "plugin.p.fallback="+set))
			out := make([]int32, len(rs))
			if err := partitioner(t, h).Partition(t.Context(), topic, rs, out); (err != nil) != (want.places == nil) {
				t.Errorf("placing the records: %v", err)
			} else if err == nil && !slices.Equal(out, want.places) {
				t.Errorf("placed at %v, want %v", out, want.places)
			}
			got, err := policy(t, h).Decide(t.Context(), views)
			switch {
			case want.decides && (err != nil || !slices.Equal(got, builtin)):
				t.Errorf("%d decisions, %v, want the %d of time-size", len(got), err, len(builtin))
			case !want.decides && len(got) > 0:
				t.Errorf("%d decisions of nobody", len(got))
			}
		})
	}
}
