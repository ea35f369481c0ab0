#!/bin/bash
# Requests per second of a unary gRPC echo: bandy beside a static tonic server, under the same load.
#
#   benches/rpc-echo.sh [ROUNDS]
#
# The two take turns, so that whatever else the machine does hits both; the ratio is the median over the rounds.
# SERVER=library measures the library's server in examples/echo_server.rs in place of `rpc serve --echo`, which counts and
# bounds every call. Needs h2load (Debian: nghttp2-client).
. "$(dirname "$0")/lib.sh"
rounds=${1:-5}
requests=${REQUESTS:-100000}
have h2load || { skip 'rpc serve --echo beside tonic' 'h2load is not installed (nghttp2-client)'; exit 0; }
peer_target=${PEER_TARGET_DIR:-$target/peers}
cargo build --quiet --release --manifest-path "$tree/benches/peers/tonic-echo/Cargo.toml" --target-dir "$peer_target"
ours=$(port) theirs=$(port)
if [ "${SERVER:-}" = library ]; then
    cargo build --quiet --release --manifest-path "$tree/Cargo.toml" --example echo_server
    $real "$target/release/examples/echo_server" "127.0.0.1:$ours" & pids+=($!)
else
    echo 'syntax = "proto3"; package echo; service Echo { rpc Unary(M) returns (M); } message M { string text = 1; }' > "$work/echo.proto"
    $real "$bandy" rpc serve -l "127.0.0.1:$ours" --proto "$work/echo.proto" --echo > /dev/null 2>&1 & pids+=($!)
fi
$real "$peer_target/release/tonic-echo" "127.0.0.1:$theirs" & pids+=($!)
# Message{text: "hello world"} behind its five-byte prefix.
printf '\0\0\0\0\015\012\013hello world' > "$work/request"
for port in "$ours" "$theirs"; do
    until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do sleep 0.05; done
done

# Requests per second of: port, requests, connections, streams on each.
rate() {
    $real h2load -n "$2" -c "$3" -m "$4" -t 1 -d "$work/request" -H 'content-type: application/grpc' -H 'te: trailers' \
        "http://127.0.0.1:$1/echo.Echo/Unary" > "$work/out"
    grep -q " $2 succeeded, 0 failed" "$work/out" || { cat "$work/out" >&2; exit 1; }
    sed -n 's|^finished in .*, \([0-9.]*\) req/s.*|\1|p' "$work/out"
}

for load in '1 1' '1 100' '4 25' '4 100'; do
    read -r connections streams <<< "$load"
    n=$requests
    [ "$load" != '1 1' ] || n=$((requests / 5))
    : > "$work/ratios"
    for _ in $(seq "$rounds"); do
        mine=$(rate "$ours" "$n" "$connections" "$streams")
        peer=$(rate "$theirs" "$n" "$connections" "$streams")
        calc '%.3f %d %d\n' "$mine / $peer, $mine, $peer" >> "$work/ratios"
    done
    column() { cut -d' ' -f"$1" "$work/ratios" | median; }
    row "echo, connections x streams: $connections x $streams" "$(thousands "$(column 2)")/s" "tonic: $(thousands "$(column 3)")/s" \
        "$(calc %.2f "$(column 1)")" 1 "$(at_least "$(column 1)" 1)"
done
