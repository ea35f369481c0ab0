#!/bin/bash
# One unary call from the shell, from exec to exit, the schema asked from the server: bandy beside grpcurl.
#
#   benches/rpc-call.sh [ROUNDS]
#
# Both call `bandy rpc serve` in turn, 20 times a round; the ratio is the median over the rounds. "First" is with nothing kept
# from earlier commands, "again" with it: that saves a short name the round trip in which the services are listed. Needs grpcurl
# (go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3), hyperfine, jq and GNU time.
. "$(dirname "$0")/lib.sh"
rounds=${1:-7}
for tool in grpcurl hyperfine; do
    have "$tool" || { skip 'rpc call beside grpcurl' "$tool is not installed"; exit 0; }
done
$real "$bandy" rpc serve -l 127.0.0.1:0 --url-file "$work/url" > /dev/null 2>&1 & pids+=($!)
url=$(url url grpc $!)

# Milliseconds, the median of 20: a command; what to do before each.
wall() {
    $real hyperfine -N --warmup 2 --runs 20 ${2:+--prepare "$2"} --export-json "$work/out" "$1" > /dev/null 2>&1
    jq '.results[0].median * 1000' "$work/out"
}
forget="rm -rf $work/home/cache"
theirs="grpcurl -plaintext -d '{\"text\":\"hello\"}' ${url#grpc://} demo.Echo/Say"
full="$bandy rpc call -e $url demo.Echo/Say text=hello"
short="$bandy rpc call -e $url Echo/Say text=hello"
commands=("$theirs" "$full" "$full" "$short" "$short")
before=('' "$forget" '' "$forget" '')
for _ in $(seq "$rounds"); do
    for each in "${!commands[@]}"; do
        printf '%s ' "$(wall "${commands[$each]}" "${before[$each]}")"
    done >> "$work/runs"
    echo >> "$work/runs"
done

column() { awk -v c="$1" '{ print $c }' "$work/runs" | median; }
line() { # NAME COLUMN
    local share
    share=$(awk -v c="$2" '{ print $c / $1 }' "$work/runs" | median)
    row "$1" "$(calc %.2f "$(column "$2")") ms" "grpcurl: $(calc %.2f "$(column 1)") ms" "$(calc %.2f "$share")" 0.20 "$(at_most "$share" 0.20)"
}
line 'rpc call demo.Echo/Say, first' 2
line 'rpc call demo.Echo/Say, again' 3
line 'rpc call Echo/Say, first' 4
line 'rpc call Echo/Say, again' 5
mb=$(eval memory "$full") peer=$(eval memory "$theirs")
row 'memory of rpc call' "$mb MB" "grpcurl: $peer MB" "$(calc %.2f "$mb / $peer")" '15 MB' "$(at_most "$mb" 15)"
