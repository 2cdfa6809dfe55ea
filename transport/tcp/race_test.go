//go:build race

package tcp

// raced: the race detector makes sync.Pool drop things on purpose.
const raced = true
