#!/bin/sh
# Runs the Connect project's conformance suite against our server: gRPC, gRPC-Web and Connect, over HTTP/1.1 and
# HTTP/2, plain and with TLS. There is no list of known failures.
#
# Needs Go's `connectconformance` and its module's .proto files, which this script installs if they are missing.
set -eu
version=v1.0.5
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(go env GOPATH)/bin
[ -x "$bin/connectconformance" ] || go install "connectrpc.com/conformance/cmd/connectconformance@$version"
protos=$(cd / && go mod download -json "connectrpc.com/conformance@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/proto

cd "$root"
cargo build --quiet --example conformance_server
server=${CARGO_TARGET_DIR:-target}/debug/examples/conformance_server
exec "$bin/connectconformance" --conf tests/interop/connectconformance.yaml --mode server "$@" -- "$server" "$protos"
