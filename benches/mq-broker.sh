#!/bin/bash
# The broker beside RabbitMQ, loaded by the same `bandy mq bench` in the same run, in turns; prints ratios.
#
# Needs a release build, Debian's rabbitmq-server and jq. Every round gives each side its turn, so that whatever else
# the machine does falls on both; where it is allowed, servers and load run at real-time priority.
#   BANDY    the program            ROUNDS   rounds, 3 by default     SECONDS_EACH  of measuring, 3 by default
#   CASES    a pattern of the names of cases to run, all by default
#   ENDPOINT a RabbitMQ that runs already instead of one of its own
set -euo pipefail
bandy=${BANDY:-target/release/bandy} rounds=${ROUNDS:-3} each=${SECONDS_EACH:-3} cases=${CASES:-.}
work=$(mktemp -d); export BANDY_HOME=$work/home
real=""; chrt -f 1 true 2>/dev/null && real="chrt -f 1"
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
pids=()
finish() {
  for pid in "${pids[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
set -m

$real "$bandy" mq broker -l :0 --memory --url-file "$work/url" >/dev/null 2>"$work/bandy.log" & pids+=($!); ours_pid=$!
until [ -s "$work/url" ]; do sleep 0.01; done
ours=$(grep -m1 '^amqp' "$work/url")
durable=""
if "$bandy" mq broker --help | grep -q 'Where to keep'; then
  $real "$bandy" mq broker -l :0 --dir "$work/queues" --url-file "$work/durable" >/dev/null 2>&1 & pids+=($!)
  until [ -s "$work/durable" ]; do sleep 0.01; done
  durable=$(grep -m1 '^amqp' "$work/durable")
fi

if [ -n "${ENDPOINT:-}" ]; then
  theirs=$ENDPOINT
else
  amqp=$(port) dist=$(port) names=$(port)
  mkdir -p "$work/rabbit"; echo '[].' >"$work/rabbit/plugins"
  epmd -port "$names" >/dev/null 2>&1 & pids+=($!)
  env HOME="$work/rabbit" RABBITMQ_NODENAME="bench$amqp@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
    RABBITMQ_NODE_PORT="$amqp" RABBITMQ_DIST_PORT="$dist" ERL_EPMD_PORT="$names" \
    RABBITMQ_MNESIA_BASE="$work/rabbit/data" RABBITMQ_LOG_BASE="$work/rabbit/log" RABBITMQ_LOGS="$work/rabbit/log/rabbit.log" \
    RABBITMQ_PID_FILE="$work/rabbit/pid" RABBITMQ_ENABLED_PLUGINS_FILE="$work/rabbit/plugins" \
    RABBITMQ_CONFIG_FILE="$work/rabbit/rabbitmq" RABBITMQ_ADVANCED_CONFIG_FILE="$work/rabbit/advanced.config" \
    RABBITMQ_SCHEMA_DIR="$work/rabbit/schema" RABBITMQ_GENERATED_CONFIG_DIR="$work/rabbit/schema" \
    $real /usr/lib/rabbitmq/bin/rabbitmq-server >"$work/rabbit/output" 2>&1 & pids+=($!)
  theirs=amqp://127.0.0.1:$amqp
  until "$bandy" mq bench -e "$theirs" -n 1 --json >/dev/null 2>&1; do sleep 0.5; done
fi

run() { $real "$bandy" mq bench -e "$1" --json "${@:2}" 2>>"$work/errors" || { tail -2 "$work/errors" >&2; echo '{}'; }; }
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
column() { jq -r "$2 // 0" "$work/$1" | median; }

# Rates: NAME  FLAGS...
compare() {
  local name=$1; shift
  [[ $name =~ $cases ]] || return 0
  rm -f "$work/ours" "$work/theirs"
  local mine=$ours; [[ " $* " == *" --persistent "* && -n $durable ]] && mine=$durable
  for ((round = 0; round < rounds; round++)); do
    run "$mine" --for "${each}s" --warm-up 500ms "$@" >>"$work/ours"
    run "$theirs" --for "${each}s" --warm-up 500ms "$@" >>"$work/theirs"
  done
  printf '%-28s %10.0f/s %10.0f/s  %6.1fx\n' "$name" "$(column ours .rate)" "$(column theirs .rate)" \
    "$(echo "$(column ours .rate) $(column theirs .rate)" | awk '{print ($2 > 0) ? $1 / $2 : 0}')"
}

# Latencies at a rate: NAME RATE SIDES FLAGS...
latency() {
  local name=$1 rate=$2; shift 2
  [[ $name =~ $cases ]] || return 0
  rm -f "$work/ours" "$work/theirs"
  for ((round = 0; round < rounds; round++)); do
    run "$ours" --for "${each}s" --warm-up 500ms --rate "$rate" "$@" >>"$work/ours"
    run "$theirs" --for "${each}s" --warm-up 500ms --rate "$rate" "$@" >>"$work/theirs"
  done
  printf '%-28s p50 %.3f ms  p99 %.3f ms   RabbitMQ: p50 %.3f ms  p99 %.3f ms\n' "$name" \
    "$(column ours .p50)" "$(column ours .p99)" "$(column theirs .p50)" "$(column theirs .p99)"
}

echo "load average $(cut -d' ' -f1-3 /proc/loadavg), ${real:-no real-time priority}"
printf '%-28s %12s %12s\n' case bandy RabbitMQ
compare "1x1"
compare "1x1 auto-ack" --auto-ack
compare "1x1 confirms" --confirms 1000
compare "1x1 durable confirms" --persistent --confirms 1000
compare "fan-out to 10" --fan-out --queues 10 --consumers 10
compare "10x10 one queue" --producers 10 --consumers 10
compare "10x10 ten queues" --producers 10 --consumers 10 --queues 10
compare "1x1 100 queues" --queues 100
compare "1x1 1000 queues" --queues 1000
compare "500x500 connections" --producers 500 --consumers 500 --queues 10
compare "1x1 10 KB" -s 10k
[[ "half of RabbitMQ's" =~ $cases || "at 50k/s" =~ $cases ]] || exit 0
most=$(for ((round = 0; round < rounds; round++)); do run "$theirs" --for "${each}s" --warm-up 500ms; done | jq .rate | median)
half=$(awk -v most="$most" 'BEGIN {printf "%d", most / 2}')
latency "at 50k/s" 50k
latency "half of RabbitMQ's, $half/s" "$half"
echo "memory: bandy $(awk '/VmRSS/ {print $2 / 1024 " MB"}' "/proc/$ours_pid/status")"
