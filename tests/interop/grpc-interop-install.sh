#!/bin/sh
# Builds grpc-go's interoperability client into DIR as grpc-interop-client: grpc-interop-install.sh DIR
#
# `go install` would call it `client`; this name says whose.
set -eu
mkdir -p "$1"
target=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS=-mod=mod
go mod init install >/dev/null 2>&1
go get google.golang.org/grpc/interop/client@v1.85.0
go build -o "$target/grpc-interop-client" google.golang.org/grpc/interop/client
