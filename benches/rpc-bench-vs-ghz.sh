#!/bin/bash
# Load per CPU second of the generator: `bandy rpc bench` and ghz in turn against one server.
#
# Needs ghz (go install github.com/bojand/ghz/cmd/ghz@v0.121.0) and a release build.
# Prints a line per run and the ratio of the medians; the bar is 2.
set -euo pipefail
bandy=${BANDY:-target/release/bandy} calls=${CALLS:-100000} rounds=${ROUNDS:-3}
work=$(mktemp -d); export BANDY_HOME=$work
"$bandy" rpc serve -l :0 >"$work/url" 2>/dev/null & server=$!
trap 'kill $server; wait $server 2>/dev/null || true; rm -rf "$work"' EXIT
"$bandy" wait --url-file "$work/url" >/dev/null 2>&1 || until grep -q grpc "$work/url"; do :; done
url=$(grep -m1 '^grpc' "$work/url")
TIMEFORMAT='%U %S'
cpu() { { time "$@" >/dev/null 2>"$work/err"; } 2>&1 | awk '{print $1 + $2}'; }
for ((round = 0; round < rounds; round++)); do
  ours=$(cpu "$bandy" rpc bench -e "$url" Echo/Say text=hello -n "$calls" -c 50)
  theirs=$(cpu ghz --insecure --call demo.Echo.Say -d '{"text":"hello"}' -n "$calls" -c 50 "${url#grpc://}")
  echo "$ours $theirs" >>"$work/runs"
  echo "bandy $ours s  ghz $theirs s  of CPU for $calls calls"
done
median() { awk -v c="$1" '{print $c}' "$work/runs" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
awk -v ours="$(median 1)" -v theirs="$(median 2)" 'BEGIN {printf "calls per CPU second: %.2f x ghz\n", theirs / ours}'
