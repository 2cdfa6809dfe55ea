#!/usr/bin/env bash
# Installs the clients that the system tests drive: kcat from the distribution, and
# checks for the tools that fetch the others. What cannot be had is named; the tests
# that need it then say that they are skipped, and CI=true makes that an error.
set -uo pipefail

missing=()

apt_install() { # apt_install COMMAND PACKAGE
	command -v "$1" >/dev/null && return
	if command -v apt-get >/dev/null; then
		local sudo=""
		[ "$(id -u)" -eq 0 ] || sudo="sudo -n"
		$sudo apt-get install -y --no-install-recommends "$2" >/dev/null 2>&1 ||
			{ $sudo apt-get update >/dev/null 2>&1 &&
				$sudo apt-get install -y --no-install-recommends "$2" >/dev/null 2>&1; }
	elif command -v brew >/dev/null; then
		brew install "$1" >/dev/null 2>&1
	fi
	command -v "$1" >/dev/null || missing+=("$2 (command $1)")
}

apt_install kcat kcat
apt_install gcc gcc # the race detector links with it
apt_install mvn maven
apt_install javac default-jdk-headless
apt_install npm npm

if [ ${#missing[@]} -gt 0 ]; then
	echo "These could not be installed; the tests that drive them will be skipped:"
	printf '  %s\n' "${missing[@]}"
	[ "${CI:-}" != true ] || exit 1
fi
