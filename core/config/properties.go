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
	crlf bool // the last natural line ended with \r\n
}

func (r *lineReader) natural() (string, bool) {
	if r.rest == "" {
		return "", false
	}
	r.line++
	r.crlf = false
	end := strings.IndexAny(r.rest, "\r\n")
	if end < 0 {
		line := r.rest
		r.rest = ""
		return line, true
	}
	line := r.rest[:end]
	if r.crlf = strings.HasPrefix(r.rest[end:], "\r\n"); r.crlf {
		end++
	}
	r.rest = r.rest[end+1:]
	return line, true
}

const blanks = " \t\f"

// logical is the next line that holds a property, with its continuations joined.
// Comments and empty lines end where they end; they are not continued. A line that
// is nothing but a backslash is as if it were not there, except at the end of the
// text, where Java makes a property without a name of it (unless \r\n ends it).
func (r *lineReader) logical() (string, int, bool) {
	var joined strings.Builder
	first, alone := 0, 0 // lines: of the first character; of a backslash just before
	for {
		line, ok := r.natural()
		if !ok {
			return joined.String(), max(first, alone), first > 0 || alone > 0
		}
		line = strings.TrimLeft(line, blanks)
		if first == 0 && (line == "" || line[0] == '#' || line[0] == '!') {
			alone = 0
			continue
		}
		if first == 0 {
			first = r.line
		}
		more := continued(line)
		if more {
			line = line[:len(line)-1]
		}
		joined.WriteString(line)
		switch {
		case !more && joined.Len() > 0:
			return joined.String(), first, true
		case joined.Len() == 0:
			first, alone = 0, r.line
			if r.crlf {
				alone = 0
			}
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
				return "", textError(`malformed \uXXXX escape`)
			}
			n, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				return "", textError(`malformed \uXXXX escape`)
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

// EscapeKey writes a key so that ParseProperties reads it back.
func EscapeKey(key string) string { return escape(key, true) }

// EscapeValue writes a value so that ParseProperties reads it back.
func EscapeValue(value string) string { return escape(value, false) }

func escape(s string, key bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == ' ' && (key || i == 0), key && strings.ContainsRune("=:#!", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
