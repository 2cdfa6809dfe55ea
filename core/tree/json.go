package tree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// text is a number that Kafka writes as a string; either is read.
type text int64

// MarshalJSON writes a string.
func (t text) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(int64(t), 10) + `"`), nil
}

// UnmarshalJSON reads either.
func (t *text) UnmarshalJSON(b []byte) error {
	n, err := parseNumber(b)
	*t = text(n)
	return err
}

// number is written as a number; a string is read too.
type number int64

// UnmarshalJSON reads either.
func (n *number) UnmarshalJSON(b []byte) error {
	x, err := parseNumber(b)
	*n = number(x)
	return err
}

func parseNumber(b []byte) (int64, error) {
	s := strings.Trim(string(b), `"`)
	if s == "null" || s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("want a whole number, not %s", b)
	}
	return n, nil
}

// encode writes JSON as Kafka does: without HTML escapes and without a newline. The
// values of this package hold nothing that cannot be encoded.
func encode(v any) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("tree: encode %T: %v", v, err)) // unreachable: only ints, strings, slices and maps
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

func decode(what string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s from %q: %w", what, clip(data), err)
	}
	return nil
}

// clip keeps messages short.
func clip(b []byte) []byte {
	const most = 200
	if len(b) > most {
		return append(b[:most:most], "..."...)
	}
	return b
}

func versionError(what string, v number, known string) error {
	return fmt.Errorf("read %s: version %d is not known (known: %s)", what, v, known)
}
