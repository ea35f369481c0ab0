#!/bin/bash
# RabbitMQ's own load generator, PerfTest, against `bandy mq broker` and a RabbitMQ of this machine, in turn.
#
#   benches/mq-vs-rabbitmq.sh [ROUNDS]
#
# Both brokers run all the time, so that whatever else the machine does hits both; each case is run against one and then
# the other, and the ratio is the median over the rounds. PerfTest takes a good part of the cores, and is what ends at
# its limit first with bandy: ratios are lower bounds. Needs rabbitmq-server, java, mvn. SECONDS_EACH=10, BANDY=binary,
# PERF_TEST=directory of its jars.
set -euo pipefail
rounds=${1:-3}
each=${SECONDS_EACH:-10}
version=2.22.1
cd "$(dirname "$0")/.."
[ -n "${BANDY:-}" ] || cargo build --quiet --release
bandy=${BANDY:-${CARGO_TARGET_DIR:-target}/release/bandy}
work=$(mktemp -d)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill -- "-$pid" 2> /dev/null || kill "$pid" 2> /dev/null || true; done
    wait 2> /dev/null || true
    rm -rf "$work"
}
trap stop EXIT
set -m # each broker a process group of its own

jars=${PERF_TEST:-target/peers/perf-test-$version}
if [ ! -e "$jars/perf-test-$version.jar" ]; then
    cat > "$work/pom.xml" << POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>bandy</groupId><artifactId>bench</artifactId><version>1</version><dependencies><dependency>
<groupId>com.rabbitmq</groupId><artifactId>perf-test</artifactId><version>$version</version></dependency></dependencies></project>
POM
    mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$PWD/$jars"
fi

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# A RabbitMQ with ports, names and data of its own.
port=$(free_port) dist=$(free_port) epmd=$(free_port)
epmd -port "$epmd" > /dev/null 2>&1 & pids+=($!)
mkdir "$work/rabbit"
echo '[].' > "$work/rabbit/plugins"
env HOME="$work/rabbit" ERL_EPMD_PORT="$epmd" RABBITMQ_DIST_PORT="$dist" RABBITMQ_NODENAME="bench$port@localhost" \
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" RABBITMQ_MNESIA_BASE="$work/rabbit/data" \
    RABBITMQ_LOG_BASE="$work/rabbit/log" RABBITMQ_LOGS="$work/rabbit/log/rabbit.log" RABBITMQ_PID_FILE="$work/rabbit/pid" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$work/rabbit/plugins" RABBITMQ_CONFIG_FILE="$work/rabbit/rabbitmq" \
    RABBITMQ_ADVANCED_CONFIG_FILE="$work/rabbit/advanced.config" RABBITMQ_SCHEMA_DIR="$work/rabbit/schema" \
    RABBITMQ_GENERATED_CONFIG_DIR="$work/rabbit/schema" \
    /usr/lib/rabbitmq/bin/rabbitmq-server > "$work/rabbit/output" 2>&1 & pids+=($!)
rabbit=$!
export BANDY_HOME=$work/home
"$bandy" mq broker -l 127.0.0.1:0 --dir "$work/bandy" --ready-fd 3 3> "$work/url" > /dev/null 2>&1 & pids+=($!)
ours=$!
until [ -s "$work/url" ]; do kill -0 "$ours"; done
until grep -q 'Starting broker... completed' "$work/rabbit/output"; do kill -0 "$rabbit"; sleep 0.2; done
declare -A uri=([bandy]="$(head -1 "$work/url")" [rabbitmq]="amqp://127.0.0.1:$port")

perf_test() { # uri, words...
    local uri=$1
    shift
    java -cp "$jars/*" com.rabbitmq.perf.PerfTest -h "$uri" -z "$each" -s 100 "$@" > "$work/out" 2>&1 ||
        { cat "$work/out" >&2; exit 1; }
}
# Messages per second that arrived.
received() { perf_test "$@"; sed -n 's/.*receiving rate avg: \([0-9]*\) msg.*/\1/p' "$work/out" | tail -1; }
# The 99th percentile of the latency in microseconds, over the whole run.
latency() { perf_test "$@"; sed -n 's/.*consumer latency min[^0-9]*[0-9]*\/[0-9]*\/[0-9]*\/[0-9]*\/\([0-9]*\).*/\1/p' "$work/out" | tail -1; }

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

compare() { # how, what, words...
    local how=$1 what=$2 a b
    shift 2
    : > "$work/ratios"
    for _ in $(seq "$rounds"); do
        a=$("$how" "${uri[bandy]}" "$@")
        b=$("$how" "${uri[rabbitmq]}" "$@")
        awk -v a="$a" -v b="$b" 'BEGIN { printf "%.3f %d %d\n", b ? a / b : 0, a, b }' >> "$work/ratios"
    done
    column() { cut -d' ' -f"$1" "$work/ratios" | median; }
    printf '%-44s bandy %9s  rabbitmq %9s  ratio %s\n' "$what" "$(column 2)" "$(column 3)" "$(column 1)"
}

compare received 'transient, 1 to 1, messages/s' -x 1 -y 1 -q 2000 -A 100 -ad false -u transient
compare received 'persistent, confirmed, 1 to 1, messages/s' -x 1 -y 1 -q 2000 -A 100 -c 1000 -f persistent -ad false -u persistent
compare received 'transient, 1 to 10 queues, messages/s' -x 1 -y 10 -q 2000 -A 100 -t fanout -e fan
compare received 'transient, 10 to 10, messages/s' -x 10 -y 10 -q 2000 -A 100 --queue-pattern 'pair-%d' \
    --queue-pattern-from 1 --queue-pattern-to 10
for rate in ${RATES:-10000 50000}; do
    compare latency "p99 at $rate/s, microseconds" -x 1 -y 1 -q 2000 -A 100 -r "$rate" -ad false -u latency
done
# With the generator of bandy itself, which leaves more of the machine to the brokers: bandy mq bench.
