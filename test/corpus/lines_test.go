package corpus_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// minLines is how many records the corpus must have at the least.
const minLines = 2_000_000

// lines visits the lines of the corpus, without their line feeds. kcat sends no
// empty records unless told to send them as null, so empty lines are left out.
func lines(visit func(line []byte) error) error {
	root, err := goroot()
	if err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(root, "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		in := bufio.NewScanner(f)
		in.Buffer(nil, 8<<20)
		in.Split(splitLines)
		for in.Scan() {
			if len(in.Bytes()) == 0 {
				continue
			}
			if err := visit(in.Bytes()); err != nil {
				return err
			}
		}
		return in.Err()
	})
}

// splitLines keeps carriage returns, which bufio.ScanLines drops.
func splitLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// goroot asks the go command, which may be another one than the test was built with.
var goroot = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the Go distribution: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// sum is the number of lines and a checksum over all of them, in order.
type sum struct {
	n int
	h hash.Hash
}

func newSum() *sum { return &sum{h: sha256.New()} }

func (s *sum) add(line []byte) {
	s.n++
	s.h.Write(line)
	s.h.Write([]byte{'\n'})
}

func (s *sum) String() string { return fmt.Sprintf("%d records, %x", s.n, s.h.Sum(nil)) }

var wholeCorpus = sync.OnceValues(func() (*sum, error) {
	s := newSum()
	err := lines(func(l []byte) error { s.add(l); return nil })
	return s, err
})

// corpus is the checksum of all lines.
func corpus(t *testing.T) string {
	t.Helper()
	s, err := wholeCorpus()
	if err != nil {
		t.Fatal(err)
	}
	if s.n < minLines {
		t.Fatalf("the corpus has only %d lines", s.n)
	}
	return s.String()
}

// corpusLines is the number of all lines.
func corpusLines(t *testing.T) int64 {
	t.Helper()
	s, err := wholeCorpus()
	if err != nil {
		t.Fatal(err)
	}
	return int64(s.n)
}
