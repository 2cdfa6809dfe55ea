package host

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// handClock stands until a test moves it; it has no timers.
type handClock struct {
	core.SystemClock
	now time.Time
}

func (c *handClock) Now() time.Time { return c.now }

func TestBreaker(t *testing.T) {
	t.Parallel()
	c := &handClock{now: time.Unix(1000, 0)}
	b := &breaker{clock: c, failures: 3, reset: time.Minute}
	fail := func(want bool) {
		t.Helper()
		if opened, closed := b.done(true); opened != want || closed {
			t.Fatalf("opened %v, closed %v", opened, closed)
		}
	}
	allow := func(want bool) {
		t.Helper()
		if ok, _ := b.allow(); ok != want {
			t.Fatalf("allow: want %v", want)
		}
	}
	fail(false)
	fail(false)
	if opened, closed := b.done(false); opened || closed {
		t.Fatal("a success of a closed breaker is no news")
	}
	fail(false) // the row began again
	fail(false)
	allow(true)
	fail(true)
	fail(false) // a call that was on its way: open already
	allow(false)
	c.now = c.now.Add(time.Minute - 1)
	allow(false)
	c.now = c.now.Add(1)
	allow(true)
	allow(false) // one at a time
	fail(false)
	c.now = c.now.Add(time.Minute - 1)
	allow(false)
	c.now = c.now.Add(1)
	allow(true)
	allow(false)
	b.unseen() // who made it has gone
	allow(true)
	allow(false)
	if opened, closed := b.done(false); opened || !closed || b.open() {
		t.Fatal("a success closes it")
	}
	for range 3 {
		b.done(true)
	}
	if !b.open() {
		t.Fatal("closed")
	}
	if b.forget(); b.open() {
		t.Fatal("another process has the failures of the last one")
	}
	allow(true)
	fail(false)
}

// lines is a lineLog with what it has logged.
func lines(c core.Clock) (*lineLog, *bytes.Buffer) {
	var out bytes.Buffer
	var log atomic.Pointer[slog.Logger]
	log.Store(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	return &lineLog{log: &log, clock: c}, &out
}

func TestLineLog(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine)
	for name, c := range map[string]struct {
		writes []string
		want   string
	}{
		"one":          {[]string{"hello\n"}, "level=INFO msg=hello\n"},
		"in parts":     {[]string{"he", "l", "lo\nwor", "ld\n", "open"}, "level=INFO msg=hello\nlevel=INFO msg=world\n"},
		"CRLF":         {[]string{"hello\r", "\nworld\r\n"}, "level=INFO msg=hello\nlevel=INFO msg=world\n"},
		"empty lines":  {[]string{"\n\r\n  \n", "\n"}, ""},
		"panic":        {[]string{"panic: no\n"}, "level=ERROR msg=\"panic: no\"\n"},
		"garbage":      {[]string{"a\xff\xfe\x00b\n"}, "level=INFO msg=\"a\uFFFD\\x00b\"\n"},
		"long":         {[]string{long, long, long + "\nnext\n"}, "level=INFO msg=" + long + "\nlevel=INFO msg=next\n"},
		"long at once": {[]string{long + "y\n"}, "level=INFO msg=" + long + "\n"},
		"hclog": {[]string{`{"@level":"warn","@message":"watch out","@module":"m","@timestamp":"t","n":3,"s":"a b","o":{"x":[1]}}` + "\n"},
			"level=WARN msg=\"watch out\" n=3 o=\"{\\\"x\\\":[1]}\" s=\"a b\"\n"},
		"hclog levels": {[]string{`{"@level":"TRACE","@message":"a"}` + "\n" + `{"@level":"debug","@message":"b"}` + "\n" + `{"@level":"error","@message":"c"}` + "\n" + `{"@level":"?","@message":"d"}` + "\n"},
			"level=DEBUG msg=a\nlevel=DEBUG msg=b\nlevel=ERROR msg=c\nlevel=INFO msg=d\n"},
		"JSON of others": {[]string{"{\"a\":1}\n{broken\n"}, "level=INFO msg=\"{\\\"a\\\":1}\"\nlevel=INFO msg={broken\n"},
		"odd types":      {[]string{`{"@level":7,"@message":{"a":1},"k":null}` + "\n"}, "level=INFO msg=\"{\\\"a\\\":1}\" k=\"\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, out := lines(&handClock{now: time.Unix(1000, 0)})
			for _, w := range c.writes {
				if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatal(n, err)
				}
			}
			if out.String() != c.want {
				t.Errorf("logged\n%s\nwant\n%s", out, c.want)
			}
			if cap(l.partial) > 4*maxLine {
				t.Errorf("%d bytes are kept", cap(l.partial))
			}
		})
	}
}

// TestFlood: so many lines a second, the rest are counted; fields are bounded.
func TestFlood(t *testing.T) {
	t.Parallel()
	c := &handClock{now: time.Unix(1000, 0)}
	l, out := lines(c)
	for range 10 * linesASecond {
		fmt.Fprintln(l, "bla")
	}
	if n := strings.Count(out.String(), "bla"); n != linesASecond {
		t.Errorf("%d lines", n)
	}
	out.Reset()
	c.now = c.now.Add(time.Second)
	fmt.Fprintln(l, "bla")
	if want := fmt.Sprintf("lines were left out\" lines=%d\nlevel=INFO msg=bla\n", 9*linesASecond); !strings.HasSuffix(out.String(), want) {
		t.Errorf("logged %s", out)
	}
	out.Reset()
	line := `{"@message":"m"`
	for i := range 2 * maxFields {
		line += fmt.Sprintf(`,"k%d":1`, i)
	}
	fmt.Fprintln(l, line+"}")
	if n := strings.Count(out.String(), " k"); n != maxFields {
		t.Errorf("%d fields", n)
	}
}

// FuzzLineLog: whatever is printed, each line makes at most one line of the log.
func FuzzLineLog(f *testing.F) {
	f.Add([]byte("a\r\nb"), []byte("c\n"))
	f.Add([]byte(`{"@level":"warn","@message":null,"":{`), []byte("\"\xff\":1}}\n"))
	f.Add([]byte(" \r\r\n{\n"), []byte("\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		l, out := lines(&handClock{now: time.Unix(1000, 0)})
		_, _ = l.Write(a)
		_, _ = l.Write(b)
		if got, most := bytes.Count(out.Bytes(), []byte("\n")), bytes.Count(a, []byte("\n"))+bytes.Count(b, []byte("\n")); got > most {
			t.Fatalf("%d lines of %d", got, most)
		}
	})
}

// registered is a collector of metrics that are there already.
type registered []prometheus.Metric

func (registered) Describe(chan<- *prometheus.Desc) {}

func (r registered) Collect(out chan<- prometheus.Metric) {
	for _, m := range r {
		out <- m
	}
}

// TestUsable: of what two plugins count, what Prometheus would refuse is left out, and the
// page stays valid.
func TestUsable(t *testing.T) {
	t.Parallel()
	m := func(name, help string, counter bool, labels ...string) *pb.Metric {
		out := &pb.Metric{Name: name, Help: help, Counter: counter, Value: 1, Labels: map[string]string{}}
		for i := 0; i < len(labels); i += 2 {
			out.Labels[labels[i]] = labels[i+1]
		}
		return out
	}
	nan := m("nan", "", false)
	nan.Value = math.NaN()
	first := []*pb.Metric{
		m("good_total", "h", true, "a", "1"), m("good_total", "h", true, "a", "2"), nan,
		m("good_total", "h", true, "a", "1"),            // twice
		m("good_total", "another help", true, "a", "3"), // another help
		m("good_total", "h", false, "a", "4"),           // another kind
		m("good_total", "h", true, "b", "5"),            // other labels
		m("", "", false), m("Big", "", false), m("1st", "", false), m("a-b", "", false), m("a b", "", false), m("é", "", false),
		m("up", "", false), m("calls_total", "", true),
		m("l1", "", false, "plugin", "x"), m("l2", "", false, "__name__", "x"), m("l3", "", false, "", "x"), m("l4", "", false, "a-b", "x"),
		nil,
	}
	second := []*pb.Metric{m("good_total", "h", true, "a", "1"), m("good_total", "h", false, "a", "9"), m("nan", "elsewhere", false), m("own", "", false)}
	kinds := map[string]kind{}
	var page registered
	for i, all := range [][]*pb.Metric{first, second} {
		kept := usable(all, kinds)
		if want := []int{3, 2}[i]; len(kept) != want {
			t.Errorf("plugin %d: %d metrics are kept, want %d: %v", i, len(kept), want, kept)
		}
		for _, one := range kept {
			page = append(page, bridged([]string{"p", "q"}[i], one))
		}
	}
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(page); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 3 {
		t.Errorf("%d families: %v", len(families), err)
	}
	var many []*pb.Metric
	for i := range 2 * maxMetrics {
		many = append(many, m("many", "", false, "i", fmt.Sprint(i)))
	}
	if got := len(usable(many, map[string]kind{})); got != maxMetrics {
		t.Errorf("%d of too many metrics", got)
	}
}
