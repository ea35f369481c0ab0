#!/bin/bash
# How soon bandy is there and how little it needs: --version, each server from exec to its ready line, up, idle memory, size.
#
#   benches/start.sh [RUNS]
#
# Medians over the runs. Memory of `up` is that of its four processes, pages that they share counted in each (RSS) or once (PSS).
. "$(dirname "$0")/lib.sh"
runs=${1:-40}

# Milliseconds from now until a command has printed its first line; what it started is stopped.
first_line() {
    local start=${EPOCHREALTIME/./} line end pid
    exec 3< <(exec "$@" 2> /dev/null)
    pid=$!
    read -r line <&3
    end=${EPOCHREALTIME/./}
    kill "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
    exec 3<&-
    calc %.2f "$((end - start)) / 1000"
}
many() { for _ in $(seq "$runs"); do first_line "$@"; echo; done | median; }

ours=$(many "$bandy" --version)
if have kcat; then
    theirs=$(many kcat -V)
    row 'bandy --version' "$ours ms" "kcat -V: $theirs ms" "$(calc %.2f "$ours / $theirs")" '5 ms, and kcat' \
        "$(both "$(at_most "$ours" 5)" "$(at_most "$ours" "$theirs")")"
else
    skip 'bandy --version beside kcat -V' 'kcat is not installed'
fi
ready() { # NAME COMMAND...
    local time
    time=$(many "$bandy" "${@:2}")
    row "$1, until it is ready" "$time ms" '' '' '20 ms' "$(at_most "$time" 20)"
}
ready 'rpc serve' rpc serve -l :0
ready 'mq broker --memory' mq broker -l :0 --memory
ready 'mq broker' mq broker -l :0 --dir "$work/mq"
ready 'log broker --memory' log broker -l :0 --memory
ready 'log broker' log broker -l :0 --dir "$work/log"
ready 'gossip join' gossip join -l :0 --alone

# All four, in a home of their own each time.
for _ in $(seq "$((runs / 4))"); do
    export BANDY_HOME=$work/up
    start=${EPOCHREALTIME/./}
    "$bandy" up > /dev/null 2> "$work/up.err" || { cat "$work/up.err" >&2; exit 1; }
    end=${EPOCHREALTIME/./}
    calc '%.2f\n' "$((end - start)) / 1000" >> "$work/up.ms"
    sum() { "$bandy" status --json | jq .pid | while read -r pid; do awk "\$1 == \"$1:\" { print \$2 }" "/proc/$pid/smaps_rollup"; done | awk '{ all += $1 } END { printf "%.1f\n", all / 1024 }'; }
    # What starting took is given back a second after it.
    sleep 2
    sum Rss >> "$work/up.rss"
    sum Pss >> "$work/up.pss"
    "$bandy" down --all > /dev/null 2>&1
    rm -rf "$work/up"
done
time=$(median < "$work/up.ms") rss=$(median < "$work/up.rss") pss=$(median < "$work/up.pss")
row 'up with all four, until they are ready' "$time ms" '' '' '50 ms' "$(at_most "$time" 50)"
row 'up with all four, idle: RSS, and PSS' "$rss MB, $pss MB" '' '' '20 MB' "$(at_most "$rss" 20)"
size=$(calc %.1f "$(stat -c %s "$bandy") / 1000000")
row 'the program, stripped' "$size MB" '' '' '20 MB' "$(at_most "$size" 20)"
