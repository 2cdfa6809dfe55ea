package partitioners

import (
	"math/rand/v2"

	"github.com/millrace/millrace/core"
)

// picker chooses partitions at random.
type picker struct{ rnd *rand.Rand }

func newPicker(o Options) picker {
	if o.Source == nil {
		o.Source = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	return picker{rand.New(o.Source)}
}

// any is one of the available partitions, each as likely as the other; one of all
// when none is available.
func (p picker) any(parts []core.PartitionInfo) int32 {
	i := p.rnd.IntN(len(parts))
	if parts[i].Available {
		return int32(i)
	}
	if n := countAvailable(parts); n > 0 {
		return nthAvailable(parts, p.rnd.IntN(n), -1)
	}
	return int32(i)
}

// other is any, but not old unless there is no other choice.
func (p picker) other(parts []core.PartitionInfo, old int32) int32 {
	n := countAvailable(parts)
	if old >= 0 && int(old) < len(parts) && parts[old].Available {
		n--
	} else {
		old = -1
	}
	switch {
	case n > 0:
		return nthAvailable(parts, p.rnd.IntN(n), old)
	case old >= 0:
		return old
	default:
		return int32(p.rnd.IntN(len(parts)))
	}
}

func countAvailable(parts []core.PartitionInfo) (n int) {
	for i := range parts {
		if parts[i].Available {
			n++
		}
	}
	return n
}

// nthAvailable is the available partition that has n available ones before it,
// without counting skip.
func nthAvailable(parts []core.PartitionInfo, n int, skip int32) int32 {
	for i := range parts {
		if !parts[i].Available || int32(i) == skip {
			continue
		}
		if n == 0 {
			return int32(i)
		}
		n--
	}
	return -1
}
