package group

import "testing"

// TestPartitionFor holds the partition against what Java computes from
// String.hashCode, as Kafka's Utils.abs has it.
func TestPartitionFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		group         string
		of50, ofSeven int32
	}{
		{"", 0, 0},
		{"a", 47, 6},
		{"my-group", 12, 1},
		{"console-consumer-12345", 6, 6},
		{"gruppe-ä", 48, 6},
		{"👍", 14, 1},
		{"polygenelubricants", 0, 0}, // its hash is the lowest number
		{"connect-cluster/7", 43, 3},
		{"𝄞東京", 35, 3},
	} {
		if got := partitionFor(c.group, 50); got != c.of50 {
			t.Errorf("%q of 50 partitions: %d, want %d", c.group, got, c.of50)
		}
		if got := partitionFor(c.group, 7); got != c.ofSeven {
			t.Errorf("%q of 7 partitions: %d, want %d", c.group, got, c.ofSeven)
		}
	}
}
