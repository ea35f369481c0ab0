# Shared by the benchmarks beside this file, which source it first: the program, a scratch directory, peers, and rows of results.
#
#   BANDY    the program to measure; without it a release build is made
#   ROWS     a file to which each row is appended as well, fields split by tabs; benches/compare makes its tables of them
#
# Both sides of a comparison take turns in one run, so that whatever else the machine does falls on both.
set -euo pipefail
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$tree/target}
[ -n "${BANDY:-}" ] || cargo build --quiet --release --manifest-path "$tree/Cargo.toml"
bandy=$(realpath "${BANDY:-$target/release/bandy}")
work=$(mktemp -d)
export BANDY_HOME=$work/home BANDY_AUTOSTART=0
pids=()
# What these started is stopped, with its process group if it has one.
finish() {
    local pid
    for pid in "${pids[@]}"; do kill -TERM -- "-$pid" 2> /dev/null || kill "$pid" 2> /dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
# Servers and loads are put before other work where that is allowed: $real COMMAND.
real=
chrt -f 1 true 2> /dev/null && real='chrt -f 1'

# A TCP port that is free.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
# Arithmetic: calc 'FORMAT' 'EXPRESSION'.
calc() { awk "BEGIN { printf \"$1\", $2 }"; }
thousands() { printf '%.0f' "$1" | sed -E ':a; s|^([0-9]+)([0-9]{3})|\1,\2|; ta'; }
have() { command -v "$1" > /dev/null; }
# The most memory a command had, in MB.
memory() { /usr/bin/time -f %M "$@" 2>&1 > /dev/null | awk 'END { printf "%.1f", $1 / 1024 }'; }
# The memory of a process now, in MB.
resident() { awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }
# Milliseconds of processor time that a process has had.
processor() { awk -v hz="$(getconf CLK_TCK)" '{ printf "%.0f", ($14 + $15) * 1000 / hz }' "/proc/$1/stat"; }

# Waits for a server started with --url-file $work/NAME, and prints its first URL of a scheme: url NAME SCHEME PID.
url() {
    until [ -s "$work/$1" ]; do kill -0 "$3" && sleep 0.01; done
    grep -m1 "^$2" "$work/$1"
}

# met or missed: at_most VALUE LIMIT, at_least VALUE LIMIT.
at_most() { awk -v a="$1" -v b="$2" 'BEGIN { print (a <= b) ? "met" : "missed" }'; }
at_least() { awk -v a="$1" -v b="$2" 'BEGIN { print (a >= b) ? "met" : "missed" }'; }
both() { [[ "$*" == *missed* ]] && echo missed || echo met; }

# A result: WHAT OURS THEIRS RATIO BAR VERDICT, the last four of which may be empty.
row() {
    printf '%s: %s%s%s%s%s\n' "$1" "$2" "${3:+, $3}" "${4:+, ratio $4}" "${5:+; bar: $5}" "${6:+: $6}"
    [ -z "${ROWS:-}" ] || (IFS=$'\t'; echo "$*") >> "$ROWS"
}
# What could not be measured: WHAT WHY.
skip() {
    echo "skipped: $1: $2" >&2
    [ -z "${ROWS:-}" ] || printf '%s\t\t\t\t\tskipped: %s\n' "$1" "$2" >> "$ROWS"
}

# A RabbitMQ of our own in $work; sets $rabbitmq to its URL.
start_rabbitmq() {
    local amqp names at=$work/rabbit
    amqp=$(port) names=$(port)
    mkdir -p "$at"
    echo '[].' > "$at/plugins"
    epmd -port "$names" > /dev/null 2>&1 & pids+=($!)
    env HOME="$at" RABBITMQ_NODENAME="bench$amqp@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
        RABBITMQ_NODE_PORT="$amqp" RABBITMQ_DIST_PORT="$(port)" ERL_EPMD_PORT="$names" \
        RABBITMQ_MNESIA_BASE="$at/data" RABBITMQ_LOG_BASE="$at/log" RABBITMQ_LOGS="$at/log/rabbit.log" \
        RABBITMQ_PID_FILE="$at/pid" RABBITMQ_ENABLED_PLUGINS_FILE="$at/plugins" \
        RABBITMQ_CONFIG_FILE="$at/rabbitmq" RABBITMQ_ADVANCED_CONFIG_FILE="$at/advanced.config" \
        RABBITMQ_SCHEMA_DIR="$at/schema" RABBITMQ_GENERATED_CONFIG_DIR="$at/schema" \
        $real /usr/lib/rabbitmq/bin/rabbitmq-server > "$at/output" 2>&1 & pids+=($!)
    rabbitmq=amqp://127.0.0.1:$amqp
    "$bandy" wait "$rabbitmq" --timeout 60s > /dev/null 2>&1
}

# An Apache Kafka of our own in $work, of the jars in $1; sets $kafka to its address and $kafka_pid.
start_kafka() {
    local at
    at=$(port)
    mkdir "$work/kafka"
    $real sh "$tree/tests/interop/log-kafka-node.sh" "$1" "$work/kafka" "$at" "$(port)" & kafka_pid=$!
    pids+=("$kafka_pid")
    kafka=127.0.0.1:$at
    "$bandy" wait "kafka://$kafka" --timeout 60s > /dev/null 2>&1
}
