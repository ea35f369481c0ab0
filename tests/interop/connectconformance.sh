#!/bin/sh
# Runs the Connect project's conformance suite against our server: gRPC, gRPC-Web and Connect, over HTTP/1.1 and
# HTTP/2, plain and with TLS. There is no list of known failures.
#
# Needs the suite: go install connectrpc.com/conformance/cmd/connectconformance@v1.0.5
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH=$PATH:$(go env GOPATH)/bin
command -v connectconformance >/dev/null || { echo "connectconformance is not installed" >&2; exit 1; }
protos=$(cd / && go mod download -json connectrpc.com/conformance@v1.0.5 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/proto

cd "$root"
cargo build --quiet --example conformance_server
server=${CARGO_TARGET_DIR:-target}/debug/examples/conformance_server
# Many cases wait for a deadline: more of them at a time than there are cores.
exec connectconformance --conf tests/interop/connectconformance.yaml --mode server --parallel 32 "$@" \
    -- "$server" "$protos"
