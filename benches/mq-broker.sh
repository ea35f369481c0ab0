#!/bin/bash
# The broker beside RabbitMQ, loaded by the same generator in the same run, in turns; prints ratios.
#
# Needs a release build, Debian's rabbitmq-server and jq; for PerfTest java and mvn. Every round gives each side its turn,
# so that whatever else the machine does falls on both; where it is allowed, servers and load run at real-time priority.
#   BANDY    the program            ROUNDS   rounds, 3 by default     SECONDS_EACH  of measuring, 3 by default
#   CASES    a pattern of the names of cases to run, all by default
#   ENDPOINT a RabbitMQ that runs already instead of one of its own
#   LOAD     bandy (`bandy mq bench`, the default) or perf-test: RabbitMQ's own generator, which takes a good part of the
#            cores and ends at its limit first with bandy, so that its ratios are lower bounds
#   PERF_TEST  a directory with its jars, by default target/peers/perf-test-VERSION, which is filled from Maven
set -euo pipefail
bandy=${BANDY:-target/release/bandy} rounds=${ROUNDS:-3} each=${SECONDS_EACH:-3} cases=${CASES:-.}
load=${LOAD:-bandy} version=2.22.1
jars=${PERF_TEST:-target/peers/perf-test-$version}
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

if [ "$load" = perf-test ] && [ ! -e "$jars/perf-test-$version.jar" ]; then
  cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>bandy</groupId><artifactId>bench</artifactId><version>1</version><dependencies><dependency>
<groupId>com.rabbitmq</groupId><artifactId>perf-test</artifactId><version>$version</version></dependency></dependencies></project>
POM
  mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$(realpath -m "$jars")"
fi

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

median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
column() { jq -r "$2 // 0" "$work/$1" | median; }

# One run of a generator against a broker: ENDPOINT FLAGS... A JSON object with rate (per second), p50 and p99 (milliseconds).
bandy_run() {
  $real "$bandy" mq bench -e "$1" --json "${@:2}" 2>>"$work/errors" || { tail -2 "$work/errors" >&2; echo '{}'; }
}
perf_test_run() {
  local out rate latency
  out=$($real java -cp "$jars/*" com.rabbitmq.perf.PerfTest -h "$1" -z "$each" -s 100 "${@:2}" 2>&1) ||
    { tail -3 <<<"$out" >&2; echo '{}'; return; }
  rate=$(sed -n 's/.*receiving rate avg: \([0-9]*\) msg.*/\1/p' <<<"$out" | tail -1)
  # min/median/75th/95th/99th in microseconds
  latency=$(sed -n 's|.*consumer latency min[^0-9]*[0-9]*/\([0-9]*\)/[0-9]*/[0-9]*/\([0-9]*\).*|\1 \2|p' <<<"$out" | tail -1)
  awk -v rate="${rate:-0}" -v p="${latency:-0 0}" 'BEGIN {split(p, at, " ");
    printf "{\"rate\": %s, \"p50\": %.3f, \"p99\": %.3f}\n", rate, at[1] / 1000, at[2] / 1000}'
}

# Both brokers in turn, ROUNDS times: PERSISTENT(yes or no) RUN FLAGS...
in_turns() {
  local mine=$ours round
  [[ $1 == yes && -n $durable ]] && mine=$durable
  rm -f "$work/ours" "$work/theirs"
  for ((round = 0; round < rounds; round++)); do
    "$2" "$mine" "${@:3}" >>"$work/ours"
    "$2" "$theirs" "${@:3}" >>"$work/theirs"
  done
}
show_rates() {
  printf '%-28s %10.0f/s %10.0f/s  %6.1fx\n' "$1" "$(column ours .rate)" "$(column theirs .rate)" \
    "$(echo "$(column ours .rate) $(column theirs .rate)" | awk '{print ($2 > 0) ? $1 / $2 : 0}')"
}
show_latencies() {
  printf '%-28s p50 %.3f ms  p99 %.3f ms   RabbitMQ: p50 %.3f ms  p99 %.3f ms\n' "$1" \
    "$(column ours .p50)" "$(column ours .p99)" "$(column theirs .p50)" "$(column theirs .p99)"
}

# Rates: NAME FLAGS...
compare() {
  [[ $1 =~ $cases ]] || return 0
  local persistent=no
  [[ " $* " == *" --persistent "* ]] && persistent=yes
  in_turns "$persistent" bandy_run --for "${each}s" --warm-up 500ms "${@:2}"
  show_rates "$1"
}
# Latencies at a rate: NAME RATE
latency() {
  [[ $1 =~ $cases ]] || return 0
  in_turns no bandy_run --for "${each}s" --warm-up 500ms --rate "$2"
  show_latencies "$1"
}

with_perf_test() {
  pt() { # SHOW NAME PERSISTENT FLAGS...
    [[ $2 =~ $cases ]] || return 0
    in_turns "$3" perf_test_run -q 2000 -A 100 "${@:4}"
    "$1" "$2"
  }
  pt show_rates "1x1" no -x 1 -y 1 -ad false -u transient
  pt show_rates "1x1 durable confirms" yes -x 1 -y 1 -c 1000 -f persistent -ad false -u persistent
  pt show_rates "fan-out to 10" no -x 1 -y 10 -t fanout -e fan
  pt show_rates "10x10 ten queues" no -x 10 -y 10 --queue-pattern 'pair-%d' --queue-pattern-from 1 --queue-pattern-to 10
  for rate in 10000 50000; do
    pt show_latencies "at $rate/s" no -x 1 -y 1 -r "$rate" -ad false -u latency
  done
}

with_bandy() {
  compare "1x1"
  compare "1x1 auto-ack" --auto-ack
  compare "1x1 confirms" --confirms 1000
  compare "1x1 durable confirms" --persistent --confirms 1000
  compare "fan-out to 10" --fan-out --queues 10 --consumers 10
  compare "10x10 one queue" --producers 10 --consumers 10
  compare "10x10 ten queues" --producers 10 --consumers 10 --queues 10
  compare "1x1 100 queues" --queues 100
  compare "1x1 1000 queues" --queues 1000
  compare "1x1 10 KB" -s 10k
  if [[ "half of RabbitMQ's" =~ $cases || "at 50k/s" =~ $cases ]]; then
    local most half round
    most=$(for ((round = 0; round < rounds; round++)); do bandy_run "$theirs" --for "${each}s" --warm-up 500ms; done | jq .rate | median)
    half=$(awk -v most="$most" 'BEGIN {printf "%d", most / 2}')
    latency "at 50k/s" 50k
    latency "half of RabbitMQ's, $half/s" "$half"
  fi
  # The last: a thousand connections and their buffers would be in the way of what comes after.
  compare "500x500 connections" --producers 500 --consumers 500 --queues 10
}

echo "load average $(cut -d' ' -f1-3 /proc/loadavg), ${real:-no real-time priority}"
printf '%-28s %12s %12s\n' case bandy RabbitMQ
case $load in
  bandy) with_bandy ;;
  perf-test) with_perf_test ;;
  *) echo "LOAD is bandy or perf-test, not $load" >&2; exit 2 ;;
esac
echo "memory: bandy $(awk '/VmRSS/ {print $2 / 1024 " MB"}' "/proc/$ours_pid/status")"
