//go:build race

package api

// raceEnabled: the race detector makes pools forget at random.
const raceEnabled = true
