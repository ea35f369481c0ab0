#!/bin/bash
# The broker beside RabbitMQ, loaded by the same generator in the same run, in turns.
#
#   benches/mq-broker.sh
#
# Needs Debian's rabbitmq-server and jq; for PerfTest java and mvn.
#   ROUNDS   rounds, 3 by default            SECONDS_EACH  of measuring, 3 by default
#   CASES    a pattern of the names of cases to run, all by default
#   ENDPOINT a RabbitMQ that runs already instead of one of its own
#   LOAD     bandy (`bandy mq bench`, the default) or perf-test: RabbitMQ's own generator, which takes a good part of the
#            cores and ends at its limit first with bandy, so that its ratios are lower bounds
#   PERF_TEST  a directory with its jars, by default target/peers/perf-test-VERSION, which is filled from Maven
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-3} each=${SECONDS_EACH:-3} cases=${CASES:-.}
load=${LOAD:-bandy} version=2.22.1
jars=${PERF_TEST:-$tree/target/peers/perf-test-$version}
if [ -z "${ENDPOINT:-}" ] && [ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; then
    skip 'mq broker beside RabbitMQ' 'rabbitmq-server is not installed'
    exit 0
fi
set -m

if [ "$load" = perf-test ] && [ ! -e "$jars/perf-test-$version.jar" ]; then
    cat > "$work/pom.xml" << POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>bandy</groupId><artifactId>bench</artifactId><version>1</version><dependencies><dependency>
<groupId>com.rabbitmq</groupId><artifactId>perf-test</artifactId><version>$version</version></dependency></dependencies></project>
POM
    mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$(realpath -m "$jars")"
fi

$real "$bandy" mq broker -l :0 --memory --url-file "$work/url" > /dev/null 2> "$work/bandy.log" & ours_pid=$!
pids+=("$ours_pid")
ours=$(url url amqp "$ours_pid")
$real "$bandy" mq broker -l :0 --dir "$work/queues" --url-file "$work/durable" > /dev/null 2>&1 & pids+=($!)
durable=$(url durable amqp $!)
if [ -n "${ENDPOINT:-}" ]; then
    theirs=$ENDPOINT
else
    start_rabbitmq
    theirs=$rabbitmq
fi
column() { jq -r "$2 // 0" "$work/$1" | median; }

# One run of a generator against a broker: ENDPOINT FLAGS... A JSON object with rate (per second), p50 and p99 (milliseconds).
bandy_run() {
    $real "$bandy" mq bench -e "$1" --json "${@:2}" 2>> "$work/errors" || { tail -2 "$work/errors" >&2; echo '{}'; }
}
perf_test_run() {
    local out rate latency
    out=$($real java -cp "$jars/*" com.rabbitmq.perf.PerfTest -h "$1" -z "$each" -s 100 "${@:2}" 2>&1) ||
        { tail -3 <<< "$out" >&2; echo '{}'; return; }
    rate=$(sed -n 's/.*receiving rate avg: \([0-9]*\) msg.*/\1/p' <<< "$out" | tail -1)
    # min/median/75th/95th/99th in microseconds
    latency=$(sed -n 's|.*consumer latency min[^0-9]*[0-9]*/\([0-9]*\)/[0-9]*/[0-9]*/\([0-9]*\).*|\1 \2|p' <<< "$out" | tail -1)
    awk -v rate="${rate:-0}" -v p="${latency:-0 0}" 'BEGIN {split(p, at, " ");
        printf "{\"rate\": %s, \"p50\": %.3f, \"p99\": %.3f}\n", rate, at[1] / 1000, at[2] / 1000}'
}

# Both brokers in turn, ROUNDS times: PERSISTENT(yes or no) RUN FLAGS...
in_turns() {
    local mine=$ours round
    [[ $1 == no ]] || mine=$durable
    rm -f "$work/ours" "$work/theirs"
    for ((round = 0; round < rounds; round++)); do
        "$2" "$mine" "${@:3}" >> "$work/ours"
        "$2" "$theirs" "${@:3}" >> "$work/theirs"
    done
}
# A row of rates: NAME RATIO-AT-LEAST RATE-AT-LEAST, both of which may be empty.
show_rates() {
    local mine peer times= verdict= bar=
    mine=$(column ours .rate) peer=$(column theirs .rate)
    times=$(awk -v a="$mine" -v b="$peer" 'BEGIN { if (b > 0) printf "%.1f", a / b }')
    if [ -n "$2" ]; then
        bar="$2${3:+, and $(thousands "$3")/s}"
        verdict=$(both "$(at_least "${times:-0}" "$2")" "$(at_least "$mine" "${3:-0}")")
    fi
    row "$1" "$(thousands "$mine")/s" "RabbitMQ: $(thousands "$peer")/s" "$times" "$bar" "$verdict"
}
# A row of latencies: NAME P99-AT-MOST, in milliseconds; "half" is half of RabbitMQ's.
show_latencies() {
    local p99 peer limit=$2 bar="p99 $2 ms"
    p99=$(column ours .p99) peer=$(column theirs .p99)
    [ "$2" != half ] || { limit=$(calc %.3f "$peer / 2") bar="half of RabbitMQ's p99"; }
    row "$1" "p50 $(column ours .p50) ms, p99 $p99 ms" "RabbitMQ: $(column theirs .p50) ms, $peer ms" \
        "$(calc %.2f "$p99 / $peer")" "$bar" "$(at_most "$p99" "$limit")"
}

# Rates: NAME RATIO-AT-LEAST RATE-AT-LEAST FLAGS...
compare() {
    [[ $1 =~ $cases ]] || return 0
    local persistent=no
    [[ " $* " == *" --persistent "* ]] && persistent=yes
    in_turns "$persistent" bandy_run --for "${each}s" --warm-up 500ms "${@:4}"
    show_rates "$1" "$2" "$3"
}
# Latencies at a rate: NAME RATE P99-AT-MOST
latency() {
    [[ $1 =~ $cases ]] || return 0
    in_turns no bandy_run --for "${each}s" --warm-up 500ms --rate "$2"
    show_latencies "$1" "$3"
}

with_perf_test() {
    pt() { # SHOW NAME PERSISTENT FLAGS...
        [[ $2 =~ $cases ]] || return 0
        in_turns "$3" perf_test_run -q 2000 -A 100 "${@:4}"
        "$1" "$2" '' ''
    }
    pt show_rates '1x1' no -x 1 -y 1 -ad false -u transient
    pt show_rates '1x1 durable confirms' yes -x 1 -y 1 -c 1000 -f persistent -ad false -u persistent
    pt show_rates 'fan-out to 10' no -x 1 -y 10 -t fanout -e fan
    pt show_rates '10x10 ten queues' no -x 10 -y 10 --queue-pattern 'pair-%d' --queue-pattern-from 1 --queue-pattern-to 10
    for rate in 10000 50000; do
        [[ "at $rate/s" =~ $cases ]] || continue
        in_turns no perf_test_run -q 2000 -A 100 -x 1 -y 1 -r "$rate" -ad false -u latency
        show_latencies "at $rate/s" half
    done
}

with_bandy() {
    local most half round one
    compare '1 producer, 1 consumer' 10 500000
    one=$(column ours .rate 2> /dev/null || echo 0)
    compare '1x1, no acknowledgements' '' '' --auto-ack
    compare '1x1, confirms' '' '' --confirms 1000
    compare '1x1, durable with confirms, ours synced to disk' 8 200000 --persistent --confirms 1000
    compare 'fan-out to 10 queues' 5 '' --fan-out --queues 10 --consumers 10
    compare '10x10, one queue' 5 '' --producers 10 --consumers 10
    compare '10x10, ten queues' 5 '' --producers 10 --consumers 10 --queues 10
    for queues in 100 1000; do
        [[ "1x1, $queues queues" =~ $cases ]] || continue
        compare "1x1, $queues queues" '' '' --queues "$queues"
        [ "$one" = 0 ] || row "$queues queues beside one, ours" "$(thousands "$(column ours .rate)")/s" "one: $(thousands "$one")/s" \
            "$(calc %.2f "$(column ours .rate) / $one")" 'flat (0.9)' "$(at_least "$(calc %.3f "$(column ours .rate) / $one")" 0.9)"
    done
    compare '1x1, 10 KB' '' '' -s 10k
    latency 'latency at 50,000/s' 50k 1
    if [[ "latency at half of RabbitMQ's rate" =~ $cases ]]; then
        most=$(for ((round = 0; round < rounds; round++)); do bandy_run "$theirs" --for "${each}s" --warm-up 500ms; done | jq .rate | median)
        half=$(calc %d "$most / 2")
        latency "latency at half of RabbitMQ's rate, $(thousands "$half")/s" "$half" half
    fi
    # The last: a thousand connections and their buffers would be in the way of what comes after.
    compare '500x500 connections, ten queues' '' '' --producers 500 --consumers 500 --queues 10
}

case $load in
    bandy) with_bandy ;;
    perf-test) with_perf_test ;;
    *) echo "LOAD is bandy or perf-test, not $load" >&2; exit 2 ;;
esac
row 'memory of the broker after that' "$(resident "$ours_pid") MB"
