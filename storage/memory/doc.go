// Package memory is a storage that keeps logs in memory: for tests, for embedded
// brokers and for trying things out. It follows the same contract as the storage
// on disk, segments and rolls included, and forgets everything when it is closed.
package memory
