package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/millrace/millrace/core"
)

// LogOptions of NewLogger.
type LogOptions struct {
	// Format is auto, text or json: log.format. auto is text when the writer is a
	// terminal, and JSON otherwise.
	Format string
	// Level is the least level that is written; give a *slog.LevelVar to change it
	// later (log.level). nil is info.
	Level slog.Leveler
}

// NewLogger makes the broker's logger. Times are in UTC with milliseconds in JSON,
// local and short in text; durations have their unit in both ("1.5s").
func NewLogger(w io.Writer, o LogOptions) (*slog.Logger, error) {
	text := false
	switch strings.ToLower(o.Format) {
	case "text":
		text = true
	case "", "auto":
		f, isFile := w.(*os.File)
		text = isFile && term.IsTerminal(int(f.Fd()))
	case "json":
	default:
		return nil, fmt.Errorf("log format %q: want auto, text or json: %w", o.Format, core.ErrInvalidConfig)
	}
	h := &slog.HandlerOptions{Level: o.Level}
	if text {
		h.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 && a.Value.Kind() == slog.KindTime {
				return slog.String(a.Key, a.Value.Time().Format("15:04:05.000"))
			}
			return a
		}
		return slog.New(slog.NewTextHandler(w, h)), nil
	}
	h.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 && a.Value.Kind() == slog.KindTime {
			return slog.String(a.Key, a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		if a.Value.Kind() == slog.KindDuration {
			return slog.String(a.Key, a.Value.Duration().String())
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, h)), nil
}

// ParseLevel reads log.level: debug, info, warn or error, in any case.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q: want debug, info, warn or error: %w", s, core.ErrInvalidConfig)
}
