//go:build race

package mmap_test

// raceDetector: the tests run with the race detector.
const raceDetector = true
