#!/bin/sh
# Connect's conformance suite against bandy's client library. Needs go, buf and the suite:
#   go install connectrpc.com/conformance/cmd/connectconformance@v1.0.5
#   go install github.com/bufbuild/buf/cmd/buf@v1.75.0
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PATH=$PATH:$(go env GOPATH)/bin
for tool in connectconformance buf; do
    command -v "$tool" >/dev/null || { echo "connectconformance-client: $tool is not installed" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The suite's own schema, from the module it was built from, and the descriptors it sends as error details.
module=$(go mod download -json connectrpc.com/conformance@v1.0.5 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
cp -r "$module/proto/." "$work"
chmod -R u+w "$work"
printf 'syntax = "proto3";\nimport "google/protobuf/descriptor.proto";\nmessage Unused { google.protobuf.FileDescriptorProto file = 1; }\n' \
    >"$work/descriptors.proto"
buf build "$work" -o "$work/suite.binpb"

cargo build --quiet --manifest-path "$root/Cargo.toml" --example conformance-client
exec_dir=${CARGO_TARGET_DIR:-$root/target}/debug/examples
connectconformance --mode client --conf "$here/connectconformance-client.yaml" "$@" \
    -- "$exec_dir/conformance-client" "$work/suite.binpb"
