package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Rule bounds the values of a setting beyond its type. The zero Rule allows all.
type Rule struct {
	// Min and Max bound numbers, both included; used when HasMin and HasMax say so.
	Min, Max       float64
	HasMin, HasMax bool
	// Also is a value outside the bounds that is allowed nevertheless ("[1,...,9] or
	// -1").
	Also    float64
	HasAlso bool
	// OneOf lists the allowed strings, or elements of a list.
	OneOf []string
	// FoldCase lets OneOf match in any case.
	FoldCase bool
	// NotEmpty refuses the empty string and the empty list.
	NotEmpty bool
	// Throttle asks for Kafka's lists of throttled replicas: PARTITION:BROKER,...
	// or *.
	Throttle bool
}

func atLeast(minimum float64) Rule { return Rule{Min: minimum, HasMin: true} }

func between(minimum, maximum float64) Rule {
	return Rule{Min: minimum, HasMin: true, Max: maximum, HasMax: true}
}

func (r Rule) or(also float64) Rule { r.Also, r.HasAlso = also, true; return r }

func oneOf(values ...string) Rule { return Rule{OneOf: values} }

func oneOfAnyCase(values ...string) Rule { return Rule{OneOf: values, FoldCase: true} }

// String is how Kafka's documentation writes the rule; empty when all is allowed.
func (r Rule) String() string {
	switch {
	case r.OneOf != nil:
		return "[" + strings.Join(r.OneOf, ", ") + "]"
	case r.Throttle:
		return "[partitionId]:[brokerId],[partitionId]:[brokerId],... or *"
	case r.NotEmpty:
		return "not empty"
	case !r.HasMin && !r.HasMax:
		return ""
	}
	var b strings.Builder
	b.WriteString("[")
	if r.HasMin {
		b.WriteString(number(r.Min))
		b.WriteString(",")
	}
	b.WriteString("...")
	if r.HasMax {
		b.WriteString(",")
		b.WriteString(number(r.Max))
	}
	b.WriteString("]")
	if r.HasAlso {
		b.WriteString(" or " + number(r.Also))
	}
	return b.String()
}

func number(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// Check parses a value by the setting's type and rule. The error is worded as
// Kafka's: "Invalid value x for configuration y: Not a number of type INT".
func (s *Setting) Check(value string) error {
	if err := s.check(value); err != nil {
		shown := value
		if s.Sensitive() {
			shown = "[hidden]"
		}
		return fmt.Errorf("Invalid value %s for configuration %s: %w", shown, s.Name, err) //nolint:staticcheck // clients are shown Kafka's wording
	}
	return nil
}

func (s *Setting) check(value string) error {
	v := strings.TrimSpace(value)
	switch s.Type {
	case Boolean:
		if !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
			return textError("Expected value to be either true or false")
		}
		return nil
	case Int, Short, Long:
		bits := map[Type]int{Short: 16, Int: 32, Long: 64}[s.Type]
		n, err := strconv.ParseInt(v, 10, bits)
		if err != nil {
			return textError("Not a number of type " + strings.ToUpper(s.Type.String()))
		}
		return s.Valid.number(float64(n))
	case Double:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsNaN(f) {
			return textError("Not a number of type DOUBLE")
		}
		return s.Valid.number(f)
	case List:
		return s.Valid.list(SplitList(v))
	default:
		return s.Valid.text(v)
	}
}

func (r Rule) number(f float64) error {
	switch {
	case r.HasAlso && f == r.Also:
		return nil
	case r.HasMin && f < r.Min:
		return textError("Value must be at least " + number(r.Min))
	case r.HasMax && f > r.Max:
		return textError("Value must be no more than " + number(r.Max))
	}
	return nil
}

func (r Rule) text(v string) error {
	if r.NotEmpty && v == "" {
		return textError("String must be non-empty")
	}
	if r.OneOf != nil && !r.has(v) {
		return textError("String must be one of: " + strings.Join(r.OneOf, ", "))
	}
	return nil
}

func (r Rule) list(items []string) error {
	if r.NotEmpty && len(items) == 0 {
		return textError("Configuration must not be empty")
	}
	if r.Throttle {
		return throttled(items)
	}
	if r.OneOf == nil {
		return nil
	}
	for _, item := range items {
		if !r.has(item) {
			return textError("String must be one of: " + strings.Join(r.OneOf, ", "))
		}
	}
	return nil
}

func (r Rule) has(v string) bool {
	if r.FoldCase {
		return slices.ContainsFunc(r.OneOf, func(o string) bool { return strings.EqualFold(o, v) })
	}
	return slices.Contains(r.OneOf, v)
}

func throttled(items []string) error {
	if len(items) == 1 && (items[0] == "*" || items[0] == "none") {
		return nil
	}
	for _, item := range items {
		p, b, ok := strings.Cut(item, ":")
		if _, err := strconv.ParseUint(p, 10, 31); err != nil {
			ok = false
		}
		if _, err := strconv.ParseUint(b, 10, 31); err != nil {
			ok = false
		}
		if !ok {
			return textError("Must be the literal '*' or a list of replicas in the form [partitionId]:[brokerId],[partitionId]:[brokerId],...")
		}
	}
	return nil
}

// SplitList splits the value of a list as Kafka does: at commas, with the spaces
// around them. An empty value is an empty list.
func SplitList(v string) []string {
	v = strings.TrimSpace(v)
	if v == "" {
		return nil
	}
	items := strings.Split(v, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// textError is an error without a cause.
type textError string

func (e textError) Error() string { return string(e) }
