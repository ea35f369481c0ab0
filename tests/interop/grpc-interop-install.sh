#!/bin/sh
# Builds grpc-go's interoperability client and server into DIR as grpc-interop-client and grpc-interop-server:
# grpc-interop-install.sh DIR
#
# `go install` would call them `client` and `server`; these names say whose.
set -eu
mkdir -p "$1"
target=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS=-mod=mod
go mod init install >/dev/null 2>&1
go get google.golang.org/grpc/interop/client@v1.85.0 google.golang.org/grpc/interop/server@v1.85.0
for part in client server; do
    go build -o "$target/grpc-interop-$part" "google.golang.org/grpc/interop/$part"
done
