#!/bin/bash
# Calls per second of a unary echo over the compact protocol and over gRPC: one server, one load generator.
#
#   benches/rpc-compact.sh [ROUNDS]
#
# `bandy rpc bench` loads `bandy rpc serve` over both in turn, so that whatever else the machine does hits both; the ratio
# is the median over the rounds. Both sides share the machine's cores.
. "$(dirname "$0")/lib.sh"
rounds=${1:-5}
calls=${CALLS:-200000}
"$bandy" rpc serve -l 127.0.0.1:0 --url-file "$work/url" > /dev/null 2>&1 & pids+=($!)
place=$(url url grpc $!)
place=${place#grpc://}

# Calls per second of: scheme, connections, calls at the same time.
rate() {
    "$bandy" rpc bench -e "$1://$place" Echo/Say text='hello world' -n "$calls" --connections "$2" -c "$3" --json > "$work/out"
    jq -e '.errors == 0' "$work/out" > /dev/null || { cat "$work/out" >&2; exit 1; }
    jq .rate "$work/out"
}

for load in '1 100' '4 100'; do
    read -r connections concurrency <<< "$load"
    : > "$work/ratios"
    for _ in $(seq "$rounds"); do
        compact=$(rate tcp "$connections" "$concurrency")
        grpc=$(rate grpc "$connections" "$concurrency")
        calc '%.3f %d %d\n' "$compact / $grpc, $compact, $grpc" >> "$work/ratios"
    done
    column() { cut -d' ' -f"$1" "$work/ratios" | median; }
    row "compact, $connections connections, $concurrency calls at a time" "$(thousands "$(column 2)")/s" \
        "gRPC: $(thousands "$(column 3)")/s" "$(calc %.1f "$(column 1)")" 2 "$(at_least "$(column 1)" 2)"
done
