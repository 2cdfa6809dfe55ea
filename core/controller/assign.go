package controller

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
)

// candidate is a broker that replicas may go to.
type candidate struct {
	id   int32
	rack string
}

// placement says where an assignment begins. Kafka draws start and shift at random
// for a new topic; for more partitions of an old one they follow from its first
// partition.
type placement struct {
	start, shift int
	first        int // number of the first partition to place
}

// spread places the replicas of count partitions as Kafka's tools do: the first
// replicas round-robin over the brokers from a starting point, the others at a
// distance that grows with each round. When every broker has a rack, the replicas
// of a partition are on as many racks as there are.
func spread(brokers []candidate, count, factor int, at placement) ([][]int32, error) {
	if count <= 0 {
		return nil, core.Failf(kerr.InvalidPartitions.Code, "Number of partitions must be larger than 0.")
	}
	if factor <= 0 {
		return nil, core.Failf(kerr.InvalidReplicationFactor.Code, "Replication factor must be larger than 0.")
	}
	if factor > len(brokers) {
		return nil, core.Failf(kerr.InvalidReplicationFactor.Code,
			"Replication factor: %d larger than available brokers: %d.", factor, len(brokers))
	}
	racks := map[string]bool{}
	for _, b := range brokers {
		racks[b.rack] = true
	}
	row, numRacks := alternate(brokers), len(racks)
	if racks[""] { // a broker without a rack: racks are not looked at
		row, numRacks = slices.Clone(brokers), 1
		slices.SortFunc(row, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	}
	out := make([][]int32, count)
	shift := at.shift
	for i := range out {
		number := at.first + i
		if number > 0 && number%len(row) == 0 {
			shift++
		}
		out[i] = spreadOne(row, numRacks, factor, (number+at.start)%len(row), shift)
	}
	return out, nil
}

// spreadOne places one partition: row[first], then brokers at growing distances,
// no broker twice and no rack twice before each rack was used.
func spreadOne(row []candidate, numRacks, factor, first, shift int) []int32 {
	replicas := []int32{row[first].id}
	used := map[string]bool{row[first].rack: true}
	for k := 0; len(replicas) < factor; k++ {
		distance := 1 + (shift*numRacks+k)%(len(row)-1)
		b := row[(first+distance)%len(row)]
		newRack := !used[b.rack] || len(used) == numRacks
		if newRack && !slices.Contains(replicas, b.id) {
			replicas = append(replicas, b.id)
			used[b.rack] = true
		}
	}
	return replicas
}

// alternate orders the brokers so that neighbours are on different racks: the first
// broker of each rack, the second of each, and so on.
func alternate(brokers []candidate) []candidate {
	byRack := map[string][]candidate{}
	for _, b := range brokers {
		byRack[b.rack] = append(byRack[b.rack], b)
	}
	var names []string
	for name, list := range byRack {
		names = append(names, name)
		slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	}
	slices.Sort(names)
	out := make([]candidate, 0, len(brokers))
	for round := 0; len(out) < len(brokers); round++ {
		for _, name := range names {
			if list := byRack[name]; round < len(list) {
				out = append(out, list[round])
			}
		}
	}
	return out
}

// checkAssignment validates replicas that a client chose. factor is the number of
// replicas each partition must have, 0 for that of the first one.
func checkAssignment(assignment [][]int32, factor, firstPartition int, live func(int32) bool) error {
	invalid := kerr.InvalidReplicaAssignment.Code
	for i, replicas := range assignment {
		p := firstPartition + i
		if len(replicas) == 0 {
			return core.Failf(invalid, "The manual partition assignment includes an empty replica list for partition %d.", p)
		}
		sorted := slices.Clone(replicas)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(replicas) {
			return core.Failf(invalid, "The manual partition assignment of partition %d includes a broker twice: %v.", p, replicas)
		}
		for _, id := range replicas {
			if !live(id) {
				return core.Failf(invalid, "The manual partition assignment of partition %d includes broker %d, but no such broker is registered.", p, id)
			}
		}
		if factor == 0 {
			factor = len(replicas)
		}
		if len(replicas) != factor {
			return core.Failf(invalid,
				"The manual partition assignment of partition %d has %d replica(s), but the other partitions have %d.", p, len(replicas), factor)
		}
	}
	return nil
}
