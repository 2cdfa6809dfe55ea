package config

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// checkJava reads a file of vectors: what java.util.Properties (JDK 17)
// makes of an input, as quoted strings separated by tabs; ERR where it throws, NONE
// where there is no property.
func checkJava(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); n++ {
		fields := strings.Split(sc.Text(), "\t")
		input := unquote(t, fields[0])
		props, errs := ParseProperties([]byte(input))
		var got []string
		for _, p := range props {
			got = append(got, p.Key, p.Value)
		}
		var want []string
		if fields[1] == "ERR" {
			if len(errs) == 0 {
				t.Errorf("%q: no error, got %q; Java refuses it", input, got)
			}
			continue
		}
		if fields[1] != "NONE" {
			for _, q := range fields[1:] {
				want = append(want, unquote(t, q))
			}
		}
		if len(errs) > 0 || strings.Join(got, "\x01") != strings.Join(want, "\x01") {
			t.Errorf("%q: got %q (%v), Java has %q", input, got, errs, want)
		}
	}
	if n == 0 {
		t.Fatal("no vectors")
	}
}

func unquote(t *testing.T, s string) string {
	t.Helper()
	// Java writes surrogate pairs as two escapes, which Go does not read.
	s = strings.ReplaceAll(s, `\ud83d\ude00`, "\U0001F600")
	out, err := strconv.Unquote(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return out
}

func TestPropertiesAsJava(t *testing.T) {
	t.Parallel()
	checkJava(t, "testdata/java_properties.txt")
}

func TestPropertiesEncodingAndLines(t *testing.T) {
	t.Parallel()
	props, errs := ParseProperties([]byte("\xef\xbb\xbfa=1\n\n# c\nb=x\\\n y\nc=\\u00\nd=é\n"))
	want := []Property{{"a", "1", 1}, {"b", "xy", 4}, {"d", "é", 7}}
	if len(props) != len(want) {
		t.Fatalf("got %v", props)
	}
	for i := range want {
		if props[i] != want[i] {
			t.Errorf("property %d: got %v, want %v", i, props[i], want[i])
		}
	}
	if len(errs) != 1 || errs[0].Error() != `line 6: malformed \uXXXX escape` {
		t.Errorf("errors: %v", errs)
	}
	props, _ = ParseProperties([]byte("a=\xe9"))
	if len(props) != 1 || props[0].Value != "é" {
		t.Errorf("ISO-8859-1: got %+v", props)
	}
}

func FuzzParseProperties(f *testing.F) {
	for _, s := range []string{"a=b", "a\\\n b", "# x\n!y\na:b", "\\u0041=\\t", "a=\\", "\\", "=", "\r\n\f\ta b\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		props, errs := ParseProperties(text)
		lines := 1 + strings.Count(strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\r", "\n"), "\n")
		last := 0
		for _, p := range props {
			if p.Line <= last || p.Line > lines {
				t.Fatalf("property %q on line %d after line %d, of %d", p.Key, p.Line, last, lines)
			}
			last = p.Line
			if !utf8.ValidString(p.Key) || !utf8.ValidString(p.Value) {
				t.Fatalf("not UTF-8: %q=%q", p.Key, p.Value)
			}
		}
		if len(errs) > 0 {
			return
		}
		// What was read can be written down and read again.
		var b strings.Builder
		for _, p := range props {
			b.WriteString(EscapeKey(p.Key) + "=" + EscapeValue(p.Value) + "\n")
		}
		again, errs := ParseProperties([]byte(b.String()))
		if len(errs) > 0 || len(again) != len(props) {
			t.Fatalf("read %d, then %d: %v\n%q", len(props), len(again), errs, b.String())
		}
		for i := range again {
			if again[i].Key != props[i].Key || again[i].Value != props[i].Value {
				t.Fatalf("%q=%q became %q=%q", props[i].Key, props[i].Value, again[i].Key, again[i].Value)
			}
		}
	})
}
