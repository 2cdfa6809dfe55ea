package clients_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// What kcat splits standard input at, and what ends a message on standard output.
const (
	kcatEnd = "<|end|>\n"
	kcatKey = "<|key|>"
)

func kcat() client {
	return client{
		name: "kcat", version: kcatVersion(), needs: []string{"kcat"}, codecs: allCodecs(),
		note: "one set of headers a run, no timestamps of one's own, nothing is sent as null",
		says: kcatSays, produce: kcatProduce, consume: kcatConsume, shows: kcatShows,
	}
}

// kcatVersion has the version of librdkafka, which does the work.
func kcatVersion() string {
	out, err := exec.Command("kcat", "-V").Output()
	m := regexp.MustCompile(`Version (\S+) .*librdkafka (\S+)`).FindSubmatch(out)
	if err != nil || m == nil {
		return "unknown"
	}
	return fmt.Sprintf("%s (librdkafka %s)", m[1], m[2])
}

// kcatSays: all messages of a run have the same headers, empty is sent as null, and
// the time is that of sending.
func kcatSays(m *message) {
	m.Headers = []header{{"run", []byte("clients")}, {"null", nil}}
	m.Time = -1
	if len(m.Key) == 0 {
		m.Key = nil
	}
	if len(m.Value) == 0 {
		m.Value = nil
	}
}

func kcatProduce(ctx context.Context, addr, topic, codec string, ms []message) error {
	var in bytes.Buffer
	for _, m := range ms {
		in.Write(m.Key)
		in.WriteString(kcatKey)
		in.Write(m.Value)
		in.WriteString(kcatEnd)
	}
	cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", addr, "-t", topic, "-p", "0", "-z", codec, "-Z",
		"-D", kcatEnd, "-K", kcatKey, "-H", "run=clients", "-H", "null")
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kcat -P: %w\n%s", err, out)
	}
	return nil
}

// kcatShows: headers are printed in one line in which nothing is escaped, and each
// value up to its first zero byte.
func kcatShows(m *message) {
	var parts []string
	for _, h := range m.Headers {
		value, _, _ := strings.Cut(string(h.Value), "\x00")
		if h.Value == nil {
			value = "NULL"
		}
		parts = append(parts, h.Key+"="+value)
	}
	m.Headers = []header{{Key: strings.Join(parts, ",")}}
}

var errKcatOutput = errors.New("kcat printed something else than was asked for")

func kcatConsume(ctx context.Context, addr, topic string, n int) ([]message, error) {
	cmd := exec.CommandContext(ctx, "kcat", "-C", "-b", addr, "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q",
		"-X", fmt.Sprintf("fetch.wait.max.ms=%d", maxWait.Milliseconds()), "-f", `%T %K %S %k%s%h`+strings.ReplaceAll(kcatEnd, "\n", `\n`))
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kcat -C: %w\n%s", err, errText.String())
	}
	var ms []message
	for len(out) > 0 {
		fields := bytes.SplitN(out, []byte(" "), 4)
		if len(fields) != 4 {
			return ms, fmt.Errorf("message %d: %w", len(ms), errKcatOutput)
		}
		m := message{}
		var errs [3]error
		m.Time, errs[0] = strconv.ParseInt(string(fields[0]), 10, 64)
		keyLen, err1 := strconv.Atoi(string(fields[1]))
		valueLen, err2 := strconv.Atoi(string(fields[2]))
		errs[1], errs[2] = err1, err2
		if err := errors.Join(errs[:]...); err != nil {
			return ms, fmt.Errorf("message %d: %w", len(ms), err)
		}
		out = fields[3]
		for _, part := range []struct {
			to *[]byte
			n  int
		}{{&m.Key, keyLen}, {&m.Value, valueLen}} {
			if part.n < 0 {
				continue
			}
			if part.n > len(out) {
				return ms, fmt.Errorf("message %d: %w", len(ms), errKcatOutput)
			}
			*part.to, out = out[:part.n:part.n], out[part.n:]
		}
		headers, rest, ok := bytes.Cut(out, []byte(kcatEnd))
		if !ok {
			return ms, fmt.Errorf("message %d: %w", len(ms), errKcatOutput)
		}
		m.Headers = []header{{Key: string(headers)}}
		ms, out = append(ms, m), rest
	}
	if len(ms) != n {
		return ms, fmt.Errorf("%d messages, not %d", len(ms), n)
	}
	return ms, nil
}
