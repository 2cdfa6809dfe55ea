package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDumpLog(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.run(done, "", "topics", "create", "t", "--partitions", "1")
	s.run(done, "h:1\tk\tv\n\tk2\tnothing\n", "produce", "t", "--parse-key", "--parse-headers", "--null-marker", "nothing")
	s.run(done, strings.Repeat("the same again\n", 1000), "produce", "t", "--compression", "gzip")
	dir := filepath.Join(s.b.Dir, "t-0")

	out := millrace(t, done, "", "dump-log", dir).Stdout // while the broker writes
	for _, want := range []string{"baseOffset: 0 lastOffset: 1 count: 2", "compresscodec: gzip", "isvalid: true", "partition.metadata"} {
		says(t, out, want)
	}
	s.b.Stop()
	out = millrace(t, done, "", "dump-log", "--print-records", dir).Stdout
	for _, want := range []string{
		`key: "k" payload: "v" headers: [h:"1"]`, `key: "k2" payload: null headers: []`, `payload: "the same again"`, ".snapshot", "producerId: ",
	} {
		says(t, out, want)
	}
	log := filepath.Join(dir, "00000000000000000000.log")
	records := 0
	for line := range strings.Lines(millrace(t, done, "", "dump-log", "--print-records", "--json", log).Stdout) {
		var v struct {
			Offset *int64
			Value  *string
			Codec  string `json:"compression"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if v.Offset != nil {
			records++
		}
	}
	if records != 1002 {
		t.Errorf("dump-log --json printed %d records, want 1002", records)
	}
	if out := millrace(t, done, "", "dump-log", "--verify-only", dir).Stdout; out != "" {
		t.Errorf("--verify-only printed %q of a sound directory", out)
	}

	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), filepath.Base(log))
	flip := append([]byte(nil), data...)
	flip[70] ^= 1
	for name, damage := range map[string][]byte{"a flipped bit": flip, "a torn tail": data[:len(data)-3]} {
		if err := os.WriteFile(other, damage, 0o644); err != nil {
			t.Fatal(err)
		}
		if r := millrace(t, damaged, "", "dump-log", "--verify-only", other); !strings.Contains(r.Stderr, other+" at ") {
			t.Errorf("%s: the place is not named: %s", name, r.Stderr)
		}
	}
}
