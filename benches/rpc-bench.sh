#!/bin/bash
# Load per CPU second of the generator: `bandy rpc bench` and ghz in turn against one server.
#
#   benches/rpc-bench.sh [ROUNDS]
#
# Needs ghz (go install github.com/bojand/ghz/cmd/ghz@v0.121.0).
. "$(dirname "$0")/lib.sh"
rounds=${1:-3} calls=${CALLS:-100000}
have ghz || { skip 'rpc bench beside ghz' 'ghz is not installed'; exit 0; }
"$bandy" rpc serve -l :0 --url-file "$work/url" > /dev/null 2>&1 & pids+=($!)
url=$(url url grpc $!)
TIMEFORMAT='%U %S'
cpu() { { time "$@" > /dev/null 2> "$work/err"; } 2>&1 | awk '{ print $1 + $2 }'; }
for _ in $(seq "$rounds"); do
    cpu "$bandy" rpc bench -e "$url" Echo/Say text=hello -n "$calls" -c 50 >> "$work/ours"
    cpu ghz --insecure --call demo.Echo.Say -d '{"text":"hello"}' -n "$calls" -c 50 "${url#grpc://}" >> "$work/theirs"
done
ours=$(calc %.0f "$calls / $(median < "$work/ours")") theirs=$(calc %.0f "$calls / $(median < "$work/theirs")")
row 'rpc bench, calls per second of its processor time' "$(thousands "$ours")" "ghz: $(thousands "$theirs")" \
    "$(calc %.1f "$ours / $theirs")" 2 "$(at_least "$(calc %.3f "$ours / $theirs")" 2)"
