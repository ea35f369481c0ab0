#!/bin/bash
# Calls per second of a unary echo over the compact protocol and over gRPC: one server, one load generator.
#
#   benches/rpc-compact.sh [ROUNDS]
#
# `bandy rpc bench` loads `bandy rpc serve` over both in turn, so that whatever else the machine does hits both; the ratio
# is the median over the rounds. The bar is 2. Both sides share the machine's cores.
set -euo pipefail
rounds=${1:-5}
calls=${CALLS:-200000}
cd "$(dirname "$0")/.."
[ -n "${BANDY:-}" ] || cargo build --quiet --release
bandy=${BANDY:-${CARGO_TARGET_DIR:-target}/release/bandy}
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2> /dev/null || true; rm -rf "$work"' EXIT
export BANDY_HOME=$work/home
"$bandy" rpc serve -l 127.0.0.1:0 --ready-fd 3 3> "$work/url" > /dev/null 2>&1 & pid=$!
until [ -s "$work/url" ]; do kill -0 "$pid"; done
place=$(sed 's|^grpc://||' "$work/url")

# Calls per second of: scheme, connections, calls at the same time.
rate() {
    "$bandy" rpc bench -e "$1://$place" Echo/Say text='hello world' -n "$calls" --connections "$2" -c "$3" --json > "$work/out"
    jq -e '.errors == 0' "$work/out" > /dev/null || { cat "$work/out" >&2; exit 1; }
    jq .rate "$work/out"
}

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

for load in '1 100' '4 100'; do
    read -r connections concurrency <<< "$load"
    : > "$work/ratios"
    for _ in $(seq "$rounds"); do
        compact=$(rate tcp "$connections" "$concurrency")
        grpc=$(rate grpc "$connections" "$concurrency")
        awk -v a="$compact" -v b="$grpc" 'BEGIN { printf "%.3f %d %d\n", a / b, a, b }' >> "$work/ratios"
    done
    column() { cut -d' ' -f"$1" "$work/ratios" | median; }
    echo "$connections connections, $concurrency calls at a time: compact $(column 2)/s, gRPC $(column 3)/s, ratio $(column 1)"
done
