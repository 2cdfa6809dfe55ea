package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
)

// reader turns values into Go types. Values have been checked against the table
// before; the first that cannot be read all the same is kept in err.
type reader struct {
	get func(name string) (string, bool)
	err error
}

func (r *reader) fail(name, value, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("setting %s=%s: want %s: %w", name, value, want, core.ErrInvalidConfig)
	}
}

func (r *reader) string(name string) string {
	v, _ := r.get(name)
	return strings.TrimSpace(v)
}

func (r *reader) bool(name string) bool { return strings.EqualFold(r.string(name), "true") }

func (r *reader) list(name string) []string { return SplitList(r.string(name)) }

func (r *reader) int64(name string) int64 {
	v := r.string(name)
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		r.fail(name, v, "a number")
	}
	return n
}

func (r *reader) int32(name string) int32 {
	v := r.string(name)
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		r.fail(name, v, "a number of 32 bits")
	}
	return int32(n)
}

func (r *reader) int16(name string) int16 {
	n := r.int32(name)
	if int32(int16(n)) != n {
		r.fail(name, r.string(name), "a number of 16 bits")
	}
	return int16(n)
}

func (r *reader) float(name string) float64 {
	v := r.string(name)
	f, err := strconv.ParseFloat(v, 64)
	if err != nil {
		r.fail(name, v, "a number")
	}
	return f
}

// ms reads milliseconds. What a Duration cannot hold is Forever; negative values,
// which mean "no bound", stay negative.
func (r *reader) ms(name string) time.Duration { return duration(r.int64(name), time.Millisecond) }

func (r *reader) minutes(name string) time.Duration { return duration(r.int64(name), time.Minute) }

func (r *reader) seconds(name string) time.Duration { return duration(r.int64(name), time.Second) }

func duration(n int64, unit time.Duration) time.Duration {
	switch {
	case n > math.MaxInt64/int64(unit):
		return Forever
	case n < 0:
		return -unit
	default:
		return time.Duration(n) * unit
	}
}
