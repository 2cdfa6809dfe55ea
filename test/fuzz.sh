#!/usr/bin/env bash
# Runs every fuzz target of the module for a while, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
fuzztime="${1:-10s}"

grep -rlE '^func Fuzz[A-Za-z0-9_]+\(' --include='*_test.go' . | xargs -r -n1 dirname | sort -u |
	while read -r dir; do
		for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | sed 's/func //' | sort -u); do
			echo "fuzz $dir $target"
			go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" -parallel 2
		done
	done
