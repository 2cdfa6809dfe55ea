package config

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Property is one key and value of a properties file.
type Property struct {
	Key, Value string
	Line       int // on which the key begins, from 1
}

// SyntaxError is a line that java.util.Properties refuses too.
type SyntaxError struct {
	Line int
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// ParseProperties reads the format of java.util.Properties: comments with # and !,
// keys ended by =, : or white space, continued lines, and the escapes \t \n \r \f
// \uXXXX; any other escaped character stands for itself. Keys may repeat; the
// caller decides. All properties that could be read are returned along with the
// errors, each a *SyntaxError.
//
// Text is UTF-8; where it is not valid UTF-8 it is read as ISO-8859-1, which Java
// uses.
func ParseProperties(text []byte) ([]Property, []error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // editors on Windows add a byte order mark
	s := string(text)
	if !utf8.ValidString(s) {
		s = latin1(text)
	}
	var props []Property
	var errs []error
	for r := (lineReader{rest: s}); ; {
		line, number, ok := r.logical()
		if !ok {
			return props, errs
		}
		key, value := splitProperty(line)
		k, err := unescape(key)
		if err == nil {
			value, err = unescape(value)
		}
		if err != nil {
			errs = append(errs, &SyntaxError{Line: number, Msg: err.Error()})
			continue
		}
		props = append(props, Property{Key: k, Value: value, Line: number})
	}
}

func latin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}

// lineReader yields natural lines, ended by \n, \r or \r\n, and logical ones.
type lineReader struct {
	rest string
	line int
}

func (r *lineReader) natural() (string, bool) {
	if r.rest == "" {
		return "", false
	}
	r.line++
	end := strings.IndexAny(r.rest, "\r\n")
	if end < 0 {
		line := r.rest
		r.rest = ""
		return line, true
	}
	line := r.rest[:end]
	if strings.HasPrefix(r.rest[end:], "\r\n") {
		end++
	}
	r.rest = r.rest[end+1:]
	return line, true
}

const blanks = " \t\f"

// logical is the next line that holds a property, with its continuations joined.
func (r *lineReader) logical() (string, int, bool) {
	var joined string
	first := 0
	for {
		line, ok := r.natural()
		if !ok {
			return joined, first, first > 0 && joined != ""
		}
		line = strings.TrimLeft(line, blanks)
		if first == 0 && (line == "" || line[0] == '#' || line[0] == '!') {
			continue
		}
		if first == 0 {
			first = r.line
		}
		joined += line
		if !continued(joined[len(joined)-len(line):]) {
			if joined == "" { // a line that held nothing but a backslash
				first = 0
				continue
			}
			return joined, first, true
		}
		joined = joined[:len(joined)-1]
		if joined == "" {
			first = 0 // Java treats what follows as a new line, which may be a comment
		}
	}
}

// continued reports whether the line ends with an odd number of backslashes.
func continued(line string) bool {
	n := len(line) - len(strings.TrimRight(line, `\`))
	return n%2 == 1
}

// splitProperty finds the end of the key: the first =, : or blank that is not
// escaped.
func splitProperty(line string) (key, value string) {
	end := len(line)
scan:
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '=', ':', ' ', '\t', '\f':
			end = i
			break scan
		}
	}
	value = strings.TrimLeft(line[end:], blanks)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], blanks)
	}
	return line[:end], value
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	var units []uint16 // of \u escapes in a row: surrogates come in pairs
	flush := func() {
		for _, r := range utf16.Decode(units) {
			b.WriteRune(r)
		}
		units = units[:0]
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			flush()
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			break // Java drops a backslash at the very end
		}
		if s[i] == 'u' {
			if i+5 > len(s) {
				return "", errText(`malformed \uXXXX escape`)
			}
			n, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				return "", errText(`malformed \uXXXX escape`)
			}
			units = append(units, uint16(n))
			i += 4
			continue
		}
		flush()
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		default:
			b.WriteByte(s[i])
		}
	}
	flush()
	return b.String(), nil
}
