package clients_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// header of a message. A value may be nil, which is null.
type header struct {
	Key   string
	Value []byte
}

// message is what clients send and receive. Key and value may be nil, which is null
// and not the same as empty.
type message struct {
	Key, Value []byte
	Headers    []header
	// Time is in ms since 1970.
	Time int64
}

const messages = 400

// testMessages are of many sizes, one larger than a batch of the clients' defaults,
// some of bytes that are no text, with all kinds of nothing in keys, values and
// headers, and with timestamps that go back now and then.
func testMessages(seed uint64, now time.Time) []message {
	rnd := rand.New(rand.NewPCG(seed, seed))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	ms := make([]message, messages)
	for i := range ms {
		m := message{
			Key:   fmt.Appendf(nil, "key %d", i),
			Value: bytes.Repeat(fmt.Appendf(nil, "%d·%d ", i, seed), i%100+1),
			Time:  now.UnixMilli() - 3_600_000 + int64(i*10) - int64(i%3*15),
		}
		switch i % 10 {
		case 1:
			m.Key = nil
		case 2:
			m.Key = []byte{}
		case 3:
			m.Key, m.Value = noise(20), noise(1000)
		case 4:
			m.Value = nil
		case 5:
			m.Value = []byte{}
		}
		for h := range i % 4 {
			m.Headers = append(m.Headers, header{"h", strconv.AppendInt(nil, int64(i*h), 10)})
		}
		switch i % 7 {
		case 1:
			m.Headers = append(m.Headers, header{"empty", []byte{}})
		case 2:
			m.Headers = append(m.Headers, header{"null", nil})
		case 3:
			m.Headers = append(m.Headers, header{"größe", noise(30)})
		}
		ms[i] = m
	}
	ms[messages/2].Value = noise(200_000)
	return ms
}

// mapped changes copies of messages.
func mapped(ms []message, change func(*message)) []message {
	out := slices.Clone(ms)
	for i := range out {
		out[i].Headers = slices.Clone(out[i].Headers)
		change(&out[i])
	}
	return out
}

// encodeLine writes a message as test/java and test/js have it.
func encodeLine(m *message) string {
	text := func(b []byte) string {
		if b == nil {
			return "-"
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	fields := []string{strconv.FormatInt(m.Time, 10), text(m.Key), text(m.Value)}
	for _, h := range m.Headers {
		fields = append(fields, text([]byte(h.Key)), text(h.Value))
	}
	return strings.Join(fields, "\t")
}

// decodeLine is the inverse of encodeLine.
func decodeLine(line string) (message, error) {
	f := strings.Split(line, "\t")
	if len(f) < 3 || len(f)%2 == 0 {
		return message{}, fmt.Errorf("%d fields in %.100q", len(f), line)
	}
	var m message
	var err error
	if m.Time, err = strconv.ParseInt(f[0], 10, 64); err != nil {
		return m, err
	}
	blob := func(s string) []byte {
		if s == "-" {
			return nil
		}
		b, decodeErr := base64.StdEncoding.DecodeString(s)
		if decodeErr != nil {
			err = decodeErr
		}
		return b
	}
	m.Key, m.Value = blob(f[1]), blob(f[2])
	for i := 3; i < len(f); i += 2 {
		m.Headers = append(m.Headers, header{string(blob(f[i])), blob(f[i+1])})
	}
	return m, err
}

// difference describes the first few messages that are not what was expected, byte
// for byte, null and empty told apart; "" where there is none.
func difference(want, got []message) string {
	var s strings.Builder
	if len(want) != len(got) {
		fmt.Fprintf(&s, "%d of them, not %d", len(got), len(want))
	}
	different := 0
	for i := range min(len(want), len(got)) {
		w, g := fmt.Sprintf("%+q", want[i].fields()), fmt.Sprintf("%+q", got[i].fields())
		if w == g {
			continue
		}
		if different++; different <= 3 {
			fmt.Fprintf(&s, "\nmessage %d: sent\n\t%.600s\nreceived\n\t%.600s", i, w, g)
		}
	}
	if different > 0 {
		fmt.Fprintf(&s, "\n%d messages differ in all", different)
	}
	return s.String()
}

// fields is a message as text, in which null and empty differ.
func (m *message) fields() []string {
	text := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return "=" + string(b)
	}
	f := []string{strconv.FormatInt(m.Time, 10), text(m.Key), text(m.Value)}
	for _, h := range m.Headers {
		f = append(f, h.Key, text(h.Value))
	}
	return f
}

// millis is the time of a message in ms; -1 where it has none, which some clients show
// as the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}
