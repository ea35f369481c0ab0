#!/bin/bash
# The log broker beside Apache Kafka, loaded by kcat in the same run, in turns; prints processor time per million records, and ratios.
#
# Needs a release build, kcat, java, and Kafka's jars (tests/interop/log-kafka-install.sh target/peers/kafka). Both keep records as Kafka does
# by default: written, synced by nobody. Where it is allowed, servers run at real-time priority.
#   BANDY    the program            ROUNDS   rounds, 3 by default     RECORDS  a round, a million by default
#   KAFKA    a directory with its jars; "none" for bandy alone
set -euo pipefail
bandy=${BANDY:-target/release/bandy} rounds=${ROUNDS:-3} records=${RECORDS:-1000000} jars=${KAFKA:-target/peers/kafka}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d); export BANDY_HOME=$work/home
real=""; chrt -f 1 true 2>/dev/null && real="chrt -f 1"
port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

# Records of 100 bytes with their keys of none.
python3 -c "
import random
line = ''.join(random.choice('abcdefghijklmnopqrstuvwxyz') for _ in range(100))
print('\n'.join([line] * $records))" >"$work/lines"

$real "$bandy" log broker -l :0 --dir "$work/log" --durability os --url-file "$work/url" >/dev/null 2>"$work/bandy.log" & pids+=($!); ours=$!
until [ -s "$work/url" ]; do sleep 0.01; done
at_ours=$(grep -m1 '^kafka' "$work/url"); at_ours=${at_ours#kafka://}
at_theirs="" theirs=""
if [ "$jars" != none ]; then
  at=$(port); mkdir "$work/kafka"
  $real sh "$here/tests/interop/log-kafka-node.sh" "$jars" "$work/kafka" "$at" "$(port)" & pids+=($!); theirs=$!
  at_theirs=127.0.0.1:$at
  until kcat -b "$at_theirs" -L >/dev/null 2>&1; do sleep 0.5; done
fi

ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
# Seconds of processor time per million records that a server takes for a command.
cost() { # pid, command...
  local pid=$1 from; shift; from=$(ticks "$pid"); "$@" >/dev/null 2>&1
  awk -v from="$from" -v to="$(ticks "$pid")" -v n="$records" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.3f\n", (to - from) / hz / (n / 1e6) }'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
produce() { kcat -P -b "$1" -t "$2" -l "$work/lines" -X acks=all -X linger.ms=20 -X queue.buffering.max.messages=1000000; }
consume() { kcat -C -b "$1" -t "$2" -o beginning -e -q; }

for round in $(seq "$rounds"); do
  for side in ours theirs; do
    [ "$side" = ours ] && { pid=$ours to=$at_ours; } || { pid=$theirs to=$at_theirs; }
    [ -n "$to" ] || continue
    cost "$pid" produce "$to" "r$round" >>"$work/$side.produce"
    cost "$pid" consume "$to" "r$round" >>"$work/$side.consume"
  done
done
for what in produce consume; do
  own=$(median <"$work/ours.$what")
  if [ -n "$at_theirs" ]; then
    other=$(median <"$work/theirs.$what")
    echo "$what: $own s of processor time per million records, Kafka $other: 1/$(awk -v a="$own" -v b="$other" 'BEGIN { printf "%.1f", b / a }')"
  else
    echo "$what: $own s of processor time per million records"
  fi
done
for partitions in 1 10 100 1000; do
  "$bandy" log create "p$partitions" --partitions "$partitions" -e "kafka://$at_ours" >/dev/null
  echo "$partitions partitions: $(cost "$ours" produce "$at_ours" "p$partitions") s per million records produced"
done
