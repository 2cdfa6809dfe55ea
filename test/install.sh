#!/usr/bin/env bash
# Installs the clients that the system tests drive: kcat, and Java with Maven and
# Node.js with npm, with which the tests fetch Kafka's Java client and kafkajs. What
# cannot be had is named; the tests that need it then say that they are skipped, and
# CI=true makes that an error.
set -uo pipefail
export DEBIAN_FRONTEND=noninteractive

missing=()
updated=false

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_get() { # apt_get PACKAGE...
	as_root apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 && return
	$updated && return 1
	updated=true
	as_root apt-get update >/dev/null 2>&1
	as_root apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1
}

need() { # need COMMAND "DEBIAN PACKAGES" HOMEBREW_FORMULA
	command -v "$1" >/dev/null && return
	echo "installing $1"
	if command -v apt-get >/dev/null; then
		# shellcheck disable=SC2086 # several packages
		apt_get $2
	elif command -v brew >/dev/null; then
		brew install "$3" >/dev/null 2>&1
	fi
	command -v "$1" >/dev/null || missing+=("$1 (Debian: $2; Homebrew: $3)")
}

need kcat kcat kcat
need gcc "gcc libc6-dev" gcc # the race detector links with it
need javac default-jdk-headless openjdk
need mvn maven maven
need node nodejs node
need npm npm node

if [ ${#missing[@]} -gt 0 ]; then
	echo "These could not be installed, for want of a package manager, the right to use it or a"
	echo "network; the tests that drive them will be skipped:"
	printf '  %s\n' "${missing[@]}"
	[ "${CI:-}" != true ] || exit 1
fi
