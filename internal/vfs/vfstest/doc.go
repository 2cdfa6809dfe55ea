// Package vfstest has file systems for tests of what is stored on disk: Disk, in
// memory, which can lose its power, and Faults, which lets any call of another
// file system fail.
//
// # What survives a power cut
//
// Disk keeps apart what was written, which is what every reader sees, and what the
// medium holds. Until a file is synced, each page of 4 KiB that was written may
// have reached the medium or not, in any order, or only some of its sectors of 512
// bytes; the size may be any that the file had since the last sync; what Allocate
// and Truncate added reads as zeros. Until a directory is synced, the files made,
// renamed and removed in it are undone from the last one on, up to any point: a
// journal keeps their order. With Unordered set that holds for each name alone,
// as on file systems without such a journal. Syncing a file says nothing of its
// name, and syncing a directory nothing of its files. Some of this happens
// unasked while the disk is used, as a kernel writes back when it likes.
//
// Everything that happens by chance is drawn from the source that the caller
// gives, so that a seed is a history.
package vfstest
