#!/bin/bash
# One unary call from the shell, from exec to exit, the schema asked from the server: bandy beside grpcurl.
#
#   benches/rpc-call.sh [ROUNDS]
#
# Both call `bandy rpc serve` in turn, 20 times a round; the ratio is the median over the rounds. The bars are a fifth of
# grpcurl's time, and 15 MB. "First" is with nothing kept from earlier commands, "again" with it: that saves a short name
# the round trip in which the services are listed. Needs grpcurl (go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3),
# hyperfine, jq and GNU time.
set -euo pipefail
rounds=${1:-7}
cd "$(dirname "$0")/.."
[ -n "${BANDY:-}" ] || cargo build --quiet --release
bandy=${BANDY:-${CARGO_TARGET_DIR:-target}/release/bandy}
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2> /dev/null || true; rm -rf "$work"' EXIT
export BANDY_HOME=$work/home
"$bandy" rpc serve -l 127.0.0.1:0 --ready-fd 3 3> "$work/url" > /dev/null 2>&1 & pid=$!
until [ -s "$work/url" ]; do kill -0 "$pid"; done
url=$(cat "$work/url")

# Milliseconds, the median of 20: a command; what to do before each.
wall() {
    hyperfine -N --warmup 2 --runs 20 ${2:+--prepare "$2"} --export-json "$work/out" "$1" > /dev/null 2>&1
    jq '.results[0].median * 1000' "$work/out"
}
# The most memory it had, in MB.
memory() { eval "/usr/bin/time -f %M $1" 2>&1 > /dev/null | awk '{ printf "%.1f", $1 / 1024 }'; }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

forget="rm -rf $work/home/cache"
theirs="grpcurl -plaintext -d '{\"text\":\"hello\"}' ${url#grpc://} demo.Echo/Say"
full="$bandy rpc call -e $url demo.Echo/Say text=hello"
short="$bandy rpc call -e $url Echo/Say text=hello"
commands=("$theirs" "$full" "$full" "$short" "$short" "$bandy --version")
before=('' "$forget" '' "$forget" '' '')
for _ in $(seq "$rounds"); do
    row=
    for each in "${!commands[@]}"; do
        time=$(wall "${commands[$each]}" "${before[$each]}")
        row+="$time "
    done
    echo "$row" >> "$work/runs"
done

column() { awk -v c="$1" '{ print $c }' "$work/runs" | median; }
share() { awk -v c="$1" '{ print $c / $1 }' "$work/runs" | median; }
line() { printf '%s: %.2f ms, %.2f of grpcurl\n' "$1" "$(column "$2")" "$(share "$2")"; }
printf 'grpcurl, demo.Echo/Say: %.2f ms, %s MB\n' "$(column 1)" "$(memory "$theirs")"
line 'bandy, demo.Echo/Say, first' 2
line 'bandy, demo.Echo/Say, again' 3
line 'bandy, Echo/Say, first' 4
line 'bandy, Echo/Say, again' 5
line 'bandy --version' 6
echo "bandy rpc call: $(memory "$full") MB"
