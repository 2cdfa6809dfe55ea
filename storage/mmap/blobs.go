package mmap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// blobs implements core.Blobs: files of the partition's directory.
type blobs struct {
	l  *Log
	mu sync.Mutex // held to change a file
}

// Blobs implements core.Log.
func (l *Log) Blobs() core.Blobs { return &l.blobs }

// isBlob reports whether a file of that name is a blob's: not the log's own, and
// not on its way in or out.
func isBlob(name string) bool {
	if name == "" || name == partitionFile || strings.HasPrefix(name, ".") || filepath.Base(name) != name {
		return false
	}
	for _, suffix := range []string{logSuffix, indexSuffix, timeSuffix, deletedSuffix, cleanedSuffix, swapSuffix, openSuffix, replacesSuffix, vfs.TmpSuffix} {
		if strings.HasSuffix(name, suffix) {
			return false
		}
	}
	return true
}

func (b *blobs) path(doing, name string) (string, error) {
	doing += " blob " + name + " of"
	if b.l.closed.Load() {
		return "", b.l.fail(doing, core.ErrClosed)
	}
	if !isBlob(name) {
		return "", b.l.fail(doing, fmt.Errorf("%q cannot name a blob: %w", name, core.ErrInvalidConfig))
	}
	return filepath.Join(b.l.dir, name), nil
}

// Get implements core.Blobs.
func (b *blobs) Get(_ context.Context, name string) ([]byte, error) {
	path, err := b.path("get", name)
	if err != nil {
		return nil, err
	}
	data, err := vfs.ReadFile(b.l.st.fs, path)
	if errors.Is(err, os.ErrNotExist) {
		err = core.ErrNotFound
	}
	if err != nil && !errors.Is(err, core.ErrNotFound) {
		return nil, b.l.fail("get blob "+name+" of", fmt.Errorf("%w: %w", sentinel(err), err))
	}
	if err != nil {
		return nil, b.l.fail("get blob "+name+" of", err)
	}
	return data, nil
}

// Put implements core.Blobs.
func (b *blobs) Put(_ context.Context, name string, data []byte) error {
	path, err := b.path("put", name)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// The directory first: once the file is replaced nothing may be left to be done.
	if err = b.l.entry.syncParent(b.l.st.fs); err == nil {
		err = vfs.WriteFile(b.l.st.fs, path, data)
	}
	if err != nil {
		kind := sentinel(err)
		if errors.Is(kind, core.ErrStorage) {
			b.l.dd.doubt()
		}
		return b.l.fail("put blob "+name+" of", fmt.Errorf("%w: %w", kind, err))
	}
	return nil
}

// List implements core.Blobs.
func (b *blobs) List(context.Context) ([]string, error) {
	if b.l.closed.Load() {
		return nil, b.l.fail("list blobs of", core.ErrClosed)
	}
	entries, err := b.l.st.fs.ReadDir(b.l.dir)
	if err != nil {
		return nil, b.l.fail("list blobs of", fmt.Errorf("%w: %w", sentinel(err), err))
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && isBlob(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Delete implements core.Blobs.
func (b *blobs) Delete(_ context.Context, name string) error {
	path, err := b.path("delete", name)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.l.st.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return b.l.fail("delete blob "+name+" of", fmt.Errorf("%w: %w", core.ErrStorage, err))
	}
	return nil
}
