#!/bin/bash
# Requests per second of a unary gRPC echo: bandy beside a static tonic server, under the same load.
#
#   benches/rpc-echo.sh [ROUNDS]
#
# The two take turns, so that whatever else the machine does hits both; the ratio is the median over the rounds.
# With BANDY=FILE it is that binary's `rpc serve --echo`, else the library's server in examples/echo_server.rs. Needs h2load (Debian: nghttp2-client).
set -euo pipefail
rounds=${1:-5}
requests=${REQUESTS:-100000}
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
peer_target=${PEER_TARGET_DIR:-$target/peers}
[ -n "${BANDY:-}" ] || cargo build --quiet --release --example echo_server
cargo build --quiet --release --manifest-path benches/peers/tonic-echo/Cargo.toml --target-dir "$peer_target"

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
if [ -n "${BANDY:-}" ]; then
    echo 'syntax = "proto3"; package echo; service Echo { rpc Unary(M) returns (M); } message M { string text = 1; }' > "$work/echo.proto"
    BANDY_HOME=$work/home "$BANDY" rpc serve -l 127.0.0.1:18181 --proto "$work/echo.proto" --echo > /dev/null 2>&1 & pids+=($!)
else
    "$target/release/examples/echo_server" 127.0.0.1:18181 & pids+=($!)
fi
"$peer_target/release/tonic-echo" 127.0.0.1:18182 & pids+=($!)
# Message{text: "hello world"} behind its five-byte prefix.
printf '\0\0\0\0\015\012\013hello world' > "$work/request"
for port in 18181 18182; do
    until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done
done

# Requests per second of: port, connections, streams on each.
rate() {
    h2load -n "$requests" -c "$2" -m "$3" -t 1 -d "$work/request" -H 'content-type: application/grpc' -H 'te: trailers' \
        "http://127.0.0.1:$1/echo.Echo/Unary" > "$work/out"
    grep -q " $requests succeeded, 0 failed" "$work/out" || { cat "$work/out" >&2; exit 1; }
    sed -n 's|^finished in .*, \([0-9.]*\) req/s.*|\1|p' "$work/out"
}

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

for load in '1 1' '1 100' '4 25' '4 100'; do
    read -r connections streams <<< "$load"
    n=$requests
    [ "$load" = '1 1' ] && requests=$((n / 5))
    : > "$work/ratios"
    for _ in $(seq "$rounds"); do
        ours=$(rate 18181 "$connections" "$streams")
        theirs=$(rate 18182 "$connections" "$streams")
        awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.3f %d %d\n", a / b, a, b }' >> "$work/ratios"
    done
    requests=$n
    ratio=$(cut -d' ' -f1 "$work/ratios" | median)
    ours=$(cut -d' ' -f2 "$work/ratios" | median)
    theirs=$(cut -d' ' -f3 "$work/ratios" | median)
    echo "$connections connections x $streams streams: bandy $ours/s, tonic $theirs/s, ratio $ratio"
done
