package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
)

// Spec says how one plugin is run. ReadSpecs makes them from settings.
type Spec struct {
	// Name is how the settings and the operator call it.
	Name string
	// Path is that of the program.
	Path string
	// SHA256 is the checksum that the program must have; nil for any.
	SHA256 []byte
	// MTLS encrypts and authenticates the connection, with certificates of one run.
	MTLS bool
	// Environment has NAME=VALUE; nothing else of the broker's environment is passed on.
	Environment []string
	// Memory is the limit in bytes; 0 is none. See limits.
	Memory int64
	// OpenFiles is the limit of descriptors; 0 leaves it as it is.
	OpenFiles int
	// Nice is added to the priority of the process, -20 to 19.
	Nice int
	// StartTimeout bounds a start, CallTimeout a call (0: what its seam has), StopTimeout
	// how long a plugin may take to close before it is killed.
	StartTimeout, CallTimeout, StopTimeout time.Duration
	// HealthInterval is the time between two looks at the plugin's health, and the time that
	// each may take.
	HealthInterval time.Duration
	// Restarts is how many starts in a row may fail, or end soon after, before the plugin
	// is left alone until the operator says restart.
	Restarts int
	// Backoff is the pause before the first new start; it doubles up to BackoffMax.
	Backoff, BackoffMax time.Duration
	// BreakerFailures calls in a row that fail open a component's breaker for BreakerReset.
	BreakerFailures int
	BreakerReset    time.Duration
	// Fallback names the built-ins that do the work when the plugin cannot: of its
	// partitioners, its retention policies or both, one of each. Without one of a seam
	// "none" is none, and otherwise the seam's own default counts.
	Fallback []string
	// Trust leaves out the check of what a compressor compresses.
	Trust bool
}

// The names of a plugin's settings, after plugin.NAME.
const (
	keyPath            = "path"
	keySHA256          = "sha256"
	keyMTLS            = "mtls"
	keyEnvironment     = "environment"
	keyMemory          = "memory.max.bytes"
	keyOpenFiles       = "open.files.max"
	keyNice            = "nice"
	keyStartTimeout    = "start.timeout.ms"
	keyCallTimeout     = "call.timeout.ms"
	keyStopTimeout     = "stop.timeout.ms"
	keyHealthInterval  = "health.interval.ms"
	keyRestarts        = "restart.max"
	keyBackoff         = "restart.backoff.ms"
	keyBackoffMax      = "restart.backoff.max.ms"
	keyBreakerFailures = "breaker.failures"
	keyBreakerReset    = "breaker.reset.ms"
	keyFallback        = "fallback"
	keyTrust           = "compression.trust"
)

// DirSetting names the directory whose programs are all plugins, each by the name of its
// file.
const DirSetting = "plugins.dir"

// prefix of a plugin's settings.
const prefix = "plugin."

// SettingDefs are those of the plugin of that name, for people.
func SettingDefs(name string) []core.SettingDef {
	d := func(key, typ, def, doc string) core.SettingDef {
		return core.SettingDef{Name: prefix + name + "." + key, Type: typ, Default: def, Doc: doc}
	}
	return []core.SettingDef{
		d(keyPath, "string", "", "The program of the plugin "+name+"."),
		d(keySHA256, "string", "", "SHA-256 that the program must have, in hexadecimal; it is not started otherwise."),
		d(keyMTLS, "boolean", "false", "Encrypt and authenticate the connection to the plugin, with certificates of one run."),
		d(keyEnvironment, "list", "", "NAME=VALUE, by commas: the plugin's environment. Nothing of the broker's own is passed on."),
		d(keyMemory, "long", "0", "Memory that the plugin may have: a cgroup (v2) where the broker may make one, else a look at it with its health; and GOMEMLIMIT. 0 is no limit."),
		d(keyOpenFiles, "int", "0", "Descriptors that the plugin may have open; 0 leaves the limit as it is."),
		d(keyNice, "int", "0", "Added to the plugin's priority, -20 to 19."),
		d(keyStartTimeout, "long", "10000", "How long a start may take."),
		d(keyCallTimeout, "long", "0", "How long a call may take; 0 is 2 s for a partitioner, 5 s for compression, 60 s for retention."),
		d(keyStopTimeout, "long", "10000", "How long the plugin may take to close before it is killed."),
		d(keyHealthInterval, "long", "5000", "Time between two looks at the plugin's health, and how long each may take; after three failures it is restarted."),
		d(keyRestarts, "int", "10", "Starts in a row that may fail before the plugin is left alone until somebody says restart."),
		d(keyBackoff, "long", "100", "Pause before the first new start; it doubles from start to start."),
		d(keyBackoffMax, "long", "30000", "Longest pause before a new start."),
		d(keyBreakerFailures, "int", "5", "Calls in a row that may fail before a component is left alone and the built-in does its work."),
		d(keyBreakerReset, "long", "30000", "How long a component is left alone before it is tried again."),
		d(keyFallback, "list", "", "Built-in that does the work when the plugin cannot, or one of each kind by commas; none for none. A partitioner has murmur2 otherwise, a retention policy none: nothing is deleted meanwhile. Compression always has the codec's own."),
		d(keyTrust, "boolean", "false", "Do not check that what the plugin compresses decompresses to the same with the built-in, and let it decompress. A plugin that errs then loses records."),
	}
}

// ReadSpecs finds the plugins that settings name: plugin.NAME.path, and the programs
// in plugins.dir. get answers the value of a setting, names lists those that are given.
// Everything that is wrong is reported at once and wraps core.ErrInvalidConfig.
func ReadSpecs(names []string, get func(name string) (string, bool)) ([]Spec, error) {
	found := map[string]string{}
	var errs []error
	if dir, ok := get(DirSetting); ok && dir != "" {
		programs, err := programsIn(dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s=%s: %w: %w", DirSetting, dir, err, core.ErrInvalidConfig))
		}
		maps.Copy(found, programs)
	}
	settings := map[string][]string{}
	for _, full := range names {
		rest, ok := strings.CutPrefix(full, prefix)
		if !ok {
			continue
		}
		name, key, ok := strings.Cut(rest, ".")
		if !ok || name == "" {
			errs = append(errs, fmt.Errorf("%s: want plugin.NAME.SETTING, for example plugin.NAME.path: %w", full, core.ErrInvalidConfig))
			continue
		}
		settings[name] = append(settings[name], key)
		if path, _ := get(full); key == keyPath {
			found[name] = path
		}
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if _, ok := found[name]; !ok {
			errs = append(errs, fmt.Errorf("plugin.%s.%s: no such plugin: set plugin.%s.path to its program, or put a program of that name into %s: %w",
				name, settings[name][0], name, DirSetting, core.ErrInvalidConfig))
		}
	}
	var specs []Spec
	for _, name := range slices.Sorted(maps.Keys(found)) {
		s, err := readSpec(name, found[name], settings[name], get)
		specs, errs = append(specs, s), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return specs, nil
}

// DefaultSpec is how a program is run of which the settings say nothing.
func DefaultSpec(name, path string) (Spec, error) {
	return readSpec(name, path, nil, func(string) (string, bool) { return "", false })
}

// goodName keeps names usable in settings, metrics and files.
var goodName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// programsIn lists the executable files of a directory by the names that they have as
// plugins.
func programsIn(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for plugins: %w", err)
	}
	out := map[string]string{}
	for _, e := range entries {
		const executable = 0o111
		info, err := os.Stat(filepath.Join(dir, e.Name())) // follows links
		if err != nil || !info.Mode().IsRegular() || info.Mode()&executable == 0 {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "millrace-plugin-"), ".exe")
		if goodName.MatchString(name) {
			out[name] = filepath.Join(dir, e.Name())
		}
	}
	return out, nil
}

// reading collects what is wrong with one plugin's settings.
type reading struct {
	name string
	get  func(string) (string, bool)
	errs []error
}

func (r *reading) value(key, def string) string {
	if v, ok := r.get(prefix + r.name + "." + key); ok && v != "" {
		return strings.TrimSpace(v)
	}
	return def
}

func (r *reading) wrong(key, value, want string) {
	r.errs = append(r.errs, fmt.Errorf("plugin.%s.%s=%s: want %s: %w", r.name, key, value, want, core.ErrInvalidConfig))
}

func (r *reading) number(key string, least, most int64) int64 {
	v := r.value(key, r.standard(key))
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least || n > most {
		r.wrong(key, v, fmt.Sprintf("a number from %d to %d", least, most))
	}
	return n
}

func (r *reading) ms(key string, least int64) time.Duration {
	const day = 24 * 60 * 60 * 1000
	return time.Duration(r.number(key, least, day)) * time.Millisecond
}

func (r *reading) yes(key string) bool {
	v := r.value(key, r.standard(key))
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.wrong(key, v, "true or false")
	}
	return b
}

// standard is a setting's default, from the one list that has it.
func (r *reading) standard(key string) string {
	for _, d := range SettingDefs(r.name) {
		if d.Name == prefix+r.name+"."+key {
			return d.Default
		}
	}
	return ""
}

// list takes a value apart at its commas.
func list(value string) []string {
	var out []string
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func readSpec(name, path string, keys []string, get func(string) (string, bool)) (Spec, error) {
	r := &reading{name: name, get: get}
	if !goodName.MatchString(name) {
		r.errs = append(r.errs, fmt.Errorf("plugin.%s: a plugin's name has small letters, digits, - and _ only: %w", name, core.ErrInvalidConfig))
	}
	known := map[string]bool{}
	for _, d := range SettingDefs(name) {
		known[strings.TrimPrefix(d.Name, prefix+name+".")] = true
	}
	for _, key := range keys {
		if !known[key] {
			r.errs = append(r.errs, fmt.Errorf("plugin.%s.%s: there is no such setting (known: %s). A component's own settings have the names that the plugin gives them: see millrace plugins inspect: %w",
				name, key, strings.Join(slices.Sorted(maps.Keys(known)), ", "), core.ErrInvalidConfig))
		}
	}
	const most = 1 << 62
	s := Spec{
		Name: name, Path: path, MTLS: r.yes(keyMTLS), Memory: r.number(keyMemory, 0, most),
		OpenFiles: int(r.number(keyOpenFiles, 0, 1<<30)), Nice: int(r.number(keyNice, -20, 19)),
		StartTimeout: r.ms(keyStartTimeout, 1), CallTimeout: r.ms(keyCallTimeout, 0), StopTimeout: r.ms(keyStopTimeout, 0),
		HealthInterval: r.ms(keyHealthInterval, 1), Restarts: int(r.number(keyRestarts, 0, 1<<30)),
		Backoff: r.ms(keyBackoff, 1), BackoffMax: r.ms(keyBackoffMax, 1),
		BreakerFailures: int(r.number(keyBreakerFailures, 1, 1<<30)), BreakerReset: r.ms(keyBreakerReset, 1),
		Fallback: list(r.value(keyFallback, "")), Trust: r.yes(keyTrust),
	}
	if sum := r.value(keySHA256, ""); sum != "" {
		var err error
		const size = 32
		if s.SHA256, err = hex.DecodeString(sum); err != nil || len(s.SHA256) != size {
			r.wrong(keySHA256, sum, "64 hexadecimal digits, as sha256sum prints them")
		}
	}
	for _, kv := range list(r.value(keyEnvironment, "")) {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" {
			r.wrong(keyEnvironment, kv, "NAME=VALUE")
		}
		s.Environment = append(s.Environment, kv)
	}
	if path == "" {
		r.wrong(keyPath, "", "the path of a program")
	}
	return s, errors.Join(r.errs...)
}
