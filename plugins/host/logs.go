package host

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

// lineLog turns what a plugin prints into lines of the broker's log. Lines that
// hashicorp/go-hclog writes keep their level and fields; others are what they are. A
// flood is cut off and counted. Safe for concurrent use.
type lineLog struct {
	log   *atomic.Pointer[slog.Logger]
	clock core.Clock

	mu      sync.Mutex
	partial []byte
	window  time.Time
	lines   int
	dropped int
}

const (
	// maxLine is the length at which a line is cut.
	maxLine = 8 << 10
	// linesASecond is how many are logged.
	linesASecond = 200
	maxFields    = 32
)

// Write implements io.Writer; it never fails.
func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if room := maxLine - len(l.partial); room > 0 {
				l.partial = append(l.partial, p[:min(room, len(p))]...)
			}
			break
		}
		line := p[:i]
		if len(l.partial) > 0 {
			line = append(l.partial, line...)
		}
		l.line(line[:min(len(line), maxLine)])
		l.partial, p = l.partial[:0], p[i+1:]
	}
	return n, nil
}

func (l *lineLog) line(line []byte) {
	line = bytes.TrimRight(line, "\r")
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	now := l.clock.Now()
	if now.Sub(l.window) >= time.Second {
		if l.dropped > 0 {
			l.log.Load().Warn("the plugin printed too much; lines were left out", "lines", l.dropped)
		}
		l.window, l.lines, l.dropped = now, 0, 0
	}
	if l.lines++; l.lines > linesASecond {
		l.dropped++
		return
	}
	level, msg, attrs := parseLine(line)
	l.log.Load().LogAttrs(context.Background(), level, msg, attrs...)
}

// parseLine takes a line of go-hclog's JSON apart.
func parseLine(line []byte) (slog.Level, string, []slog.Attr) {
	var fields map[string]json.RawMessage
	if line[0] != '{' || json.Unmarshal(line, &fields) != nil || fields["@message"] == nil {
		return plainLevel(line), strings.ToValidUTF8(string(line), "\uFFFD"), nil
	}
	level := slog.LevelInfo
	switch strings.ToLower(text(fields["@level"])) {
	case "trace", "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	msg := text(fields["@message"])
	var attrs []slog.Attr
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if strings.HasPrefix(k, "@") || len(attrs) == maxFields {
			continue
		}
		attrs = append(attrs, slog.String(k, text(fields[k])))
	}
	return level, msg, attrs
}

// plainLevel is the level of a line without one: that a program prints is worth
// knowing, that it panics more so.
func plainLevel(line []byte) slog.Level {
	for _, p := range []string{"panic:", "fatal error:", "[ERROR]"} {
		if bytes.HasPrefix(line, []byte(p)) {
			return slog.LevelError
		}
	}
	return slog.LevelInfo
}

// text is a JSON value as people read it.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
