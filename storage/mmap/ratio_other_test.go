//go:build !linux

package mmap_test

import "os"

func reserveBare(*os.File, int64) error { return nil }

func syncBare(f *os.File) error { return f.Sync() }
