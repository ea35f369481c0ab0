#!/bin/sh
# Builds Consul from the Go module proxy into DIR: consul-install.sh DIR
#
# Its go.mod has replace directives, which `go install …@version` refuses, so a module of its own
# requires it. Later versions than this need modules that are not on the proxy.
set -eu
version=v1.12.9
mkdir -p "$1"
target=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS=-mod=mod
go mod init install >/dev/null 2>&1
printf '//go:build tools\npackage tools\nimport _ "github.com/hashicorp/consul"\n' > tools.go
go get "github.com/hashicorp/consul@$version"
go build -o "$target/consul" github.com/hashicorp/consul
