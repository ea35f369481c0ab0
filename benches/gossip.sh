#!/bin/bash
# Clusters of bandy and of Serf on loopback, one after the other: what a node needs when nothing happens, how fast news and
# failures are known to all; and a hundred nodes of bandy.
#
#   benches/gossip.sh [NODES]      of each, 30 by default
#
#   SERF     the agent beside bandy: serf-0.10.2 if it is there, otherwise serf
#   PROFILE  lan by default, or local      IDLE  seconds of nothing, 30 by default      ROUNDS  of events and kills, 5 by default
# None runs at real-time priority: thirty of Go's runtimes on a few cores keep each other from starting.
# Where it is allowed this runs in a network of its own, so that the bytes on loopback are those of the cluster.
if [ -z "${IN_OWN_NETWORK:-}" ] && unshare -n ip link set lo up 2> /dev/null; then
    IN_OWN_NETWORK=yes exec unshare -n sh -c 'ip link set lo up && exec "$0" "$@"' "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
nodes=${1:-30} profile=${PROFILE:-lan} idle=${IDLE:-30} rounds=${ROUNDS:-5}
serf=${SERF:-$(have serf-0.10.2 && echo serf-0.10.2 || echo serf)}

now() { echo "${EPOCHREALTIME/./}"; }
# Milliseconds since a time until each of the files has a line with a text: until_all START TEXT FILE...
cat > "$work/watch.py" << 'PYTHON'
import sys, time
for line in sys.stdin:
    start, text, *missing = line.rstrip("\n").split("\x1f")
    start, text = int(start), text.encode()
    while missing and time.time() * 1e6 - start < 120e6:
        missing = [file for file in missing if text not in open(file, "rb").read()]
        missing and time.sleep(0.001)
    now = time.time() * 1e6
    print(f"{(now - start) / 1000:.1f}" if not missing else f"failed {len(missing)} {missing[0]}", flush=True)
PYTHON
coproc watcher { exec python3 "$work/watch.py"; }
pids+=("$watcher_PID")
until_all() {
    local answer IFS=$'\x1f'
    echo "$*" >&"${watcher[1]}"
    IFS= read -r answer <&"${watcher[0]}"
    if [[ $answer == failed* ]]; then
        echo "error: after two minutes without '$2': $answer" >&2
        tail -5 "${answer##* }" >&2
        exit 1
    fi
    echo "$answer"
}
# The memory of a process with its share of pages that others have too, in MB.
share() { awk '/^Pss:/ { printf "%.1f", $2 / 1024 }' "/proc/$1/smaps_rollup"; }
sum() { awk '{ all += $1 } END { print all }'; }
on_wire() { awk '/lo:/ { print $2 }' /proc/net/dev; }
packets() { awk '/lo:/ { print $3 }' /proc/net/dev; }

# A free port for streams and datagrams; in a network of its own, one that no connection has taken.
# Both kinds get theirs this way: ports that lie close together take fewer bytes when a state is compressed.
last_port=21000
free_port() { if [ -n "${IN_OWN_NETWORK:-}" ]; then free=$((++last_port)); else free=$(port); fi; }
# One node: NAME [SEED]; what happens is in $work/$kind/NAME, its process in $members.
start_bandy() {
    local free
    free_port
    : > "$work/$kind/$1"
    $bandy gossip join -l "127.0.0.1:$free" --rpc none --name "$1" --profile "$profile" ${2:---alone} > "$work/$kind/$1" 2>&1 &
    members[$1]=$!
}
start_serf() {
    local bind rpc free
    free_port; bind=127.0.0.1:$free
    free_port; rpc=127.0.0.1:$free
    address[$1]=$bind rpcs[$1]=$rpc
    : > "$work/$kind/$1"
    $serf agent -node="$1" -bind="$bind" -rpc-addr="$rpc" -profile="$profile" ${2:+-join=$2} > "$work/$kind/$1" 2>&1 &
    members[$1]=$!
}
# Who joined says so: serf in its log, bandy by the URLs that it prints then.
joined_bandy='local:' joined_serf='Join completed' first_bandy='local:' first_serf='Serf agent running'
failed_bandy=$'failed\t' failed_serf='EventMemberFailed: '
event_bandy=$'event\t' event_serf='user-event: '
say_bandy() { $bandy gossip event "$1" -e local:b1; }
say_serf() { $serf event -rpc-addr="${rpcs[s1]}" -coalesce=false "$1" > /dev/null; }
knows_bandy() { $bandy gossip wait --members "$1" -e local:b1 --timeout 120s > /dev/null; }
knows_serf() { until [ "$($serf members -rpc-addr="${rpcs[s1]}" -status=alive | wc -l)" -ge "$1" ]; do sleep 0.1; done; }
seed_of() { if [ "$kind" = bandy ]; then sed -n 's/^gossip:\/\///p' "$work/bandy/b1" | head -1; else echo "${address[s1]}"; fi; }

# A cluster of a kind from its start to its end: KIND LETTER; figures are in $work/KIND.
cluster() {
    kind=$1
    local letter=$2 n name seed before round
    declare -gA members=() address=() rpcs=()
    mkdir -p "$work/$kind"
    local first=first_$kind joined=joined_$kind failed=failed_$kind event=event_$kind
    "start_$kind" "${letter}1"
    until_all "$(now)" "${!first}" "$work/$kind/${letter}1" > /dev/null
    seed=$(seed_of)
    for ((n = 2; n <= nodes; n++)); do
        start=$(now)
        "start_$kind" "$letter$n" "$seed"
        until_all "$start" "${!joined}" "$work/$kind/$letter$n" >> "$work/$kind.join"
    done
    "knows_$kind" "$nodes"
    sleep 60 # News of the last join are still under way, and agents exchange states from their second half minute on.

    local cpu=0 after=0 bytes count
    for pid in "${members[@]}"; do cpu=$((cpu + $(processor "$pid"))); done
    bytes=$(on_wire) count=$(packets)
    sleep "$idle"
    bytes=$(($(on_wire) - bytes)) count=$(($(packets) - count))
    for pid in "${members[@]}"; do after=$((after + $(processor "$pid"))); done
    calc '%.2f' "($after - $cpu) / 10 / $idle / $nodes" > "$work/$kind.cpu"
    calc '%.0f' "$bytes / $idle / $nodes" > "$work/$kind.bytes"
    calc '%.2f' "$count / $idle / $nodes" > "$work/$kind.packets"
    for pid in "${members[@]}"; do resident "$pid"; echo; done | median > "$work/$kind.memory"
    for pid in "${members[@]}"; do share "$pid"; echo; done | median > "$work/$kind.share"

    for ((round = 1; round <= 4 * rounds; round++)); do
        before=$(now)
        "say_$kind" "news$round"
        until_all "$before" "${!event}news$round" "$work/$kind"/* >> "$work/$kind.event"
    done
    for ((round = 1; round <= rounds; round++)); do
        name=$letter$((nodes + 1 - round))
        before=$(now)
        kill -KILL "${members[$name]}"
        { wait "${members[$name]}" || true; } 2> /dev/null
        unset "members[$name]"
        rm "$work/$kind/$name"
        until_all "$before" "${!failed}$name" "$work/$kind"/* >> "$work/$kind.failed"
    done
    end_all
}
end_all() {
    for pid in "${members[@]}"; do kill -KILL "$pid"; done
    { wait "${members[@]}" || true; } 2> /dev/null
    members=()
}
trap 'end_all 2> /dev/null; finish' EXIT

# A row of both: WHAT UNIT FIGURE BAR-OF-THE-RATIO
beside() {
    local ours theirs ratio
    ours=$(median < "$work/bandy.$3") theirs=$(median < "$work/serf.$3")
    ratio=$(calc '%.2f' "$ours / $theirs")
    row "$1" "$ours $2" "$theirs $2" "$ratio" "${4:-}" "${4:+$(at_most "$ratio" "$4")}"
}

declare -A members=()
cluster bandy b
if have "$serf"; then
    cluster serf s
    beside "gossip, a node of $nodes, idle: memory (RSS)" MB memory
    beside "gossip, a node of $nodes, idle: its share of memory (PSS)" MB share
    beside "gossip, a node of $nodes, idle: processor" % cpu 0.33
    if [ -n "${IN_OWN_NETWORK:-}" ]; then
        beside "gossip, a node of $nodes, idle: on the wire, headers included" B/s bytes 1
        beside "gossip, a node of $nodes, idle: datagrams and segments" /s packets
    else
        skip 'gossip, on the wire' 'no network of its own'
    fi
    beside "gossip, from exec to joined" ms join
    beside "gossip, an event is known to all $nodes" ms event
    beside "gossip, a killed node has failed to all $nodes" ms failed
else
    skip 'gossip beside Serf' 'no serf'
fi
row "gossip, a node of $nodes, idle: memory (RSS)" "$(cat "$work/bandy.memory") MB" '' '' '6 MB' "$(at_most "$(cat "$work/bandy.memory")" 6)"

# A hundred of bandy.
kind=hundred many=100
mkdir "$work/hundred"
start_bandy b1
until_all "$(now)" local: "$work/hundred/b1" > /dev/null
seed=$(sed -n 's/^gossip:\/\///p' "$work/hundred/b1" | head -1)
start=$(now)
for ((n = 2; n <= many; n++)); do start_bandy "b$n" "$seed"; done
until_all "$start" local: "$work/hundred"/* > "$work/ready"
ready=$(cat "$work/ready")
knows_bandy "$many"
known=$(calc '%.1f' "($(now) - $start) / 1e6")
sleep 20
cpu=0 after=0
for pid in "${members[@]}"; do cpu=$((cpu + $(processor "$pid"))); done
sleep 10
for pid in "${members[@]}"; do after=$((after + $(processor "$pid"))); done
memory=$(for pid in "${members[@]}"; do share "$pid"; echo; done | sum)
for ((round = 1; round <= rounds; round++)); do
    start=$(now)
    $bandy gossip set "key$round" value -e local:b7
    until_all "$start" "set	key$round	" "$work/hundred"/* >> "$work/hundred.set"
done
row "gossip, $many nodes at once: all joined" "$(calc '%.2f' "$ready / 1000") s; the first knows all after $known s" '' '' '' ''
row "gossip, $many nodes, idle: memory (PSS) and processor of all" "$(calc '%.0f' "$memory") MB, $(calc '%.1f' "($after - $cpu) / 100") %" '' '' '' ''
row "gossip, $many nodes: a value is known to all" "$(median < "$work/hundred.set") ms" '' '' '' ''
