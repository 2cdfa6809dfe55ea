#!/usr/bin/env bash
# Installs the clients that the system tests drive: kcat, and Java with Maven, Node.js
# with npm and an old Python, with which the tests fetch Kafka's Java clients, kafkajs
# and kafka-python. What cannot be had is named; the tests that need it then say that
# they are skipped, and CI=true makes that an error.
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
# examples/libdeflate links with it; Homebrew's is found by its compiler.
if ! echo '#include <libdeflate.h>' | cc -E -x c - >/dev/null 2>&1; then
	echo "installing libdeflate"
	if command -v apt-get >/dev/null; then
		apt_get libdeflate-dev
	elif command -v brew >/dev/null; then
		brew install libdeflate >/dev/null 2>&1
	fi
	echo '#include <libdeflate.h>' | cc -E -x c - >/dev/null 2>&1 || missing+=("libdeflate (Debian: libdeflate-dev; Homebrew: libdeflate)")
fi
need javac default-jdk-headless openjdk
need mvn maven maven
need node nodejs node
need npm npm node
need python3 "python3 python3-venv" python
python3 -c 'import ensurepip' 2>/dev/null || apt_get python3-venv ||
	missing+=("Python's venv (Debian: python3-venv)")

# kafka-python 1.3.4 compiles on no Python after 3.6, which no package system has any
# more; pyenv builds it where it is there.
python36() {
	ls "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.6.*/bin/python 2>/dev/null | grep -q . || command -v python3.6 >/dev/null
}
if ! python36; then
	echo "installing python 3.6"
	command -v pyenv >/dev/null && pyenv install -s 3.6 >/dev/null 2>&1
	python36 || missing+=("Python 3.6 (pyenv install 3.6)")
fi

if [ ${#missing[@]} -gt 0 ]; then
	echo "These could not be installed, for want of a package manager, the right to use it or a"
	echo "network; the tests that drive them will be skipped:"
	printf '  %s\n' "${missing[@]}"
	[ "${CI:-}" != true ] || exit 1
fi
