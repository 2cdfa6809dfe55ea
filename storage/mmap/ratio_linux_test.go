package mmap_test

import (
	"os"

	"golang.org/x/sys/unix"
)

func reserveBare(f *os.File, from int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, bareChunk)
}

func syncBare(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
