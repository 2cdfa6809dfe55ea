#!/usr/bin/env bash
# Runs every fuzz target of the module for a while, one after the other.
#
# The go command sometimes reports the end of the fuzzing time itself as a failure,
# "context deadline exceeded", without a failing input. That is none.
set -uo pipefail
cd "$(dirname "$0")/.."
fuzztime="${1:-5s}"
out="$(mktemp)"
trap 'rm -f "$out"' EXIT

targets=0
for dir in $(grep -rlE '^func Fuzz[A-Za-z0-9_]+\(' --include='*_test.go' . | xargs -r -n1 dirname | sort -u); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | sed 's/func //' | sort -u); do
		targets=$((targets + 1))
		if go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" -parallel 2 >"$out" 2>&1; then
			echo "ok  	$dir $target $(grep -oE 'execs: [0-9]+' "$out" | tail -1)"
		elif grep -q 'context deadline exceeded' "$out" && ! grep -qE 'Failing input written|panic:' "$out"; then
			echo "ok  	$dir $target (ended by its time limit)"
		else
			cat "$out"
			echo "FAIL	$dir $target"
			exit 1
		fi
	done
done
[ "$targets" -gt 0 ] || { echo "no fuzz target was found"; exit 1; }
