#!/bin/bash
# Lines and envelopes into a topic and out of it from the shell: bandy beside kcat, against the same broker in turns.
#
#   benches/log-client.sh [ROUNDS]
#
# LINES_EACH lines of about 100 bytes, two million by default; a small topic is read to its end as well. Needs kcat.
. "$(dirname "$0")/lib.sh"
rounds=${1:-3} lines=${LINES_EACH:-2000000}
have kcat || { skip 'log produce and consume beside kcat' 'kcat is not installed'; exit 0; }
$real "$bandy" log broker -l :0 --dir "$work/log" --durability os --url-file "$work/url" > /dev/null 2>&1 & pids+=($!)
url=$(url url kafka $!)
at=${url#kafka://}
python3 -c "
for n in range($lines): print('line %08d of text that is as long as a line of a log often is, somewhat more than eighty bytes' % n)" > "$work/lines"
seq 10 > "$work/few"
seconds() {
    local start=${EPOCHREALTIME/./}
    "$@"
    calc '%.4f\n' "(${EPOCHREALTIME/./} - $start) / 1e6"
}
ours_produce() { "$bandy" log produce "$1" --create -e "$url" < "$work/lines" 2> /dev/null; }
theirs_produce() { kcat -P -b "$at" -t "$1" -l "$work/lines" -X acks=all -X queue.buffering.max.messages=1000000 2> /dev/null; }
ours_consume() { "$bandy" log consume "$1" -e "$url" > /dev/null; }
theirs_consume() { kcat -C -b "$at" -t "$1" -o beginning -e -q > /dev/null; }
ours_json() { "$bandy" log consume "$1" --json -e "$url" > /dev/null; }
theirs_json() { kcat -C -b "$at" -t "$1" -o beginning -e -q -J > /dev/null; }
"$bandy" log produce small --create -e "$url" < "$work/few" 2> /dev/null
for round in $(seq "$rounds"); do
    for side in ours theirs; do
        seconds "${side}_produce" "$side$round" >> "$work/$side.produce"
        seconds "${side}_consume" "$side$round" >> "$work/$side.consume"
        seconds "${side}_json" "$side$round" >> "$work/$side.json"
        seconds "${side}_consume" small >> "$work/$side.small"
        "$bandy" log rm "$side$round" -y -e "$url" > /dev/null 2>&1
    done
done
line() { # NAME FILE TIMES-AT-LEAST
    local ours theirs
    ours=$(median < "$work/ours.$2") theirs=$(median < "$work/theirs.$2")
    row "$1" "$ours s" "kcat: $theirs s" "$(calc %.1f "$theirs / $ours")" "$3" "$(at_least "$(calc %.3f "$theirs / $ours")" "$3")"
}
line "log produce, $(thousands "$lines") lines" produce 2
line "log consume, $(thousands "$lines") lines" consume 2
line "log consume --json, beside kcat -J" json 5
ours=$(calc %.1f "$(median < "$work/ours.small") * 1000") theirs=$(calc %.1f "$(median < "$work/theirs.small") * 1000")
row 'log consume, a topic of ten records to its end' "$ours ms" "kcat -e: $theirs ms" "$(calc %.1f "$theirs / $ours")" '20 ms' "$(at_most "$ours" 20)"
