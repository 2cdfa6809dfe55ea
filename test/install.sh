#!/usr/bin/env bash
# Installs the clients that the system tests drive: kcat, and Java with Maven, Node.js
# with npm and an old Python, with which the tests fetch Kafka's Java clients, kafkajs
# and kafka-python. What
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

# kafka-python 1.3.4 compiles on no Python after 3.6. No Debian after 11 has one of
# those; pyenv builds one where it is there.
old_python() {
	command -v python2.7 && return
	# shellcheck disable=SC2012 # names without surprises
	ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/{3.6,2.7}.*/bin/python 2>/dev/null | head -1 | grep .
}
if ! old_python >/dev/null; then
	echo "installing python 3.6 or 2.7"
	command -v apt-get >/dev/null && apt_get "python2.7 python-pip"
	old_python >/dev/null || ! command -v pyenv >/dev/null || pyenv install -s 3.6 >/dev/null 2>&1
	old_python >/dev/null || missing+=("Python 3.6 or 2.7 (pyenv install 3.6)")
fi

if [ ${#missing[@]} -gt 0 ]; then
	echo "These could not be installed, for want of a package manager, the right to use it or a"
	echo "network; the tests that drive them will be skipped:"
	printf '  %s\n' "${missing[@]}"
	[ "${CI:-}" != true ] || exit 1
fi
