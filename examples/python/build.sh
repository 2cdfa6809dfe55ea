#!/bin/sh
# Builds the plugin: one executable file with everything but its Python, which lies in
# target/venv of this folder. Usage: build.sh PROGRAM
set -eu
program=$1
case $program in /*) ;; *) program=$PWD/$program ;; esac
cd "$(dirname "$0")"
here=$PWD

if ! cmp -s requirements.txt target/venv/installed; then
	python3 -m venv --clear target/venv
	target/venv/bin/pip install -q --disable-pip-version-check -r requirements.txt
	cp requirements.txt target/venv/installed
fi

code=$(mktemp -d)
trap 'rm -rf "$code"' EXIT
cp plugin.py "$code"
target/venv/bin/python -m grpc_tools.protoc -I ../../plugins/proto/v0 \
	--python_out="$code" --grpc_python_out="$code" plugin.proto
target/venv/bin/python -m zipapp "$code" -m plugin:main -p "$here/target/venv/bin/python" -o "$program"
