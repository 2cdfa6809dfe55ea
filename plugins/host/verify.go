package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrChecksum says that a program is not the one that the settings pin.
var ErrChecksum = errors.New("the program has another checksum")

// Checksum is the SHA-256 of a program.
func Checksum(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("read the program %s: %w", path, err)
	}
	return h.Sum(nil), nil
}

// verify checks that the program is there, can be executed and has the checksum of the
// settings. Between this and its start nobody else may be able to write it.
func verify(s *Spec) error {
	info, err := os.Stat(s.Path)
	const executable = 0o111
	switch {
	case err != nil:
		return fmt.Errorf("plugin.%s.path: %w", s.Name, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("plugin.%s.path=%s: it is no file: name the program itself", s.Name, s.Path)
	case info.Mode()&executable == 0:
		return fmt.Errorf("plugin.%s.path=%s: it cannot be executed: chmod +x it", s.Name, s.Path)
	}
	if s.SHA256 == nil {
		return nil
	}
	sum, err := Checksum(s.Path)
	if err != nil {
		return fmt.Errorf("plugin.%s.path: %w", s.Name, err)
	}
	if !bytes.Equal(sum, s.SHA256) {
		return fmt.Errorf("%w: plugin.%s.sha256=%s, and %s has %s: if the new program is meant, change the setting; if not, find out who changed it",
			ErrChecksum, s.Name, hex.EncodeToString(s.SHA256), s.Path, hex.EncodeToString(sum))
	}
	return nil
}
