#!/bin/bash
# The log broker beside Apache Kafka, loaded by kcat in the same run, in turns: processor time per million records of 100 bytes.
#
#   benches/log-broker.sh
#
# Needs kcat, java, and Kafka's jars (tests/interop/log-kafka-install.sh target/peers/kafka). Both keep records as Kafka does
# by default: written, synced by nobody.
#   ROUNDS   rounds, 3 by default     RECORDS  a round, a million by default
#   KAFKA    a directory with its jars; "none" for bandy alone
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-3} records=${RECORDS:-1000000} jars=${KAFKA:-$tree/target/peers/kafka}
have kcat || { skip 'log broker beside Apache Kafka' 'kcat is not installed'; exit 0; }
if [ "$jars" != none ] && ! { have java && [ -d "$jars" ]; }; then
    skip 'Apache Kafka beside log broker' "java or $jars is missing"
    jars=none
fi
python3 -c "
import random
line = ''.join(random.choice('abcdefghijklmnopqrstuvwxyz') for _ in range(100))
print('\n'.join([line] * $records))" > "$work/lines"

$real "$bandy" log broker -l :0 --dir "$work/log" --durability os --url-file "$work/url" > /dev/null 2> "$work/bandy.log" & ours=$!
pids+=("$ours")
at_ours=$(url url kafka "$ours")
at_ours=${at_ours#kafka://}
at_theirs='' theirs=''
if [ "$jars" != none ]; then
    start_kafka "$jars"
    at_theirs=$kafka theirs=$kafka_pid
fi

# Seconds of processor time per million records that a server takes for a command: PID COMMAND...
cost() {
    local from
    from=$(processor "$1")
    "${@:2}" > /dev/null 2>&1
    calc '%.3f\n' "($(processor "$1") - $from) / 1000 / ($records / 1e6)"
}
produce() { kcat -P -b "$1" -t "$2" -l "$work/lines" -X acks=all -X linger.ms=20 -X queue.buffering.max.messages=1000000; }
# Removes a topic of ours, whose memory is then used again: pages that nothing has used yet are given to a virtual machine by its
# host, one by one, in the time of whoever writes to them first, which takes two to three times as long as the writing.
remove() { "$bandy" log rm "$1" --yes -e "kafka://$at_ours" > /dev/null 2>&1; }
consume() { kcat -C -b "$1" -t "$2" -o beginning -e -q; }

for round in $(seq "$rounds"); do
    for side in ours theirs; do
        [ "$side" = ours ] && { pid=$ours to=$at_ours; } || { pid=$theirs to=$at_theirs; }
        [ -n "$to" ] || continue
        cost "$pid" produce "$to" "r$round" >> "$work/$side.produce"
        cost "$pid" consume "$to" "r$round" >> "$work/$side.consume"
        [ "$side" = theirs ] || remove "r$round"
    done
done
for what in produce consume; do
    own=$(median < "$work/ours.$what") other='' share=''
    verdict=$(at_most "$own" 0.08)
    if [ -n "$at_theirs" ]; then
        other="Apache Kafka: $(median < "$work/theirs.$what") s" share=$(calc %.3f "$own / $(median < "$work/theirs.$what")")
        verdict=$(both "$verdict" "$(at_most "$share" 0.2)")
    fi
    row "broker, a million records: $what" "$own s" "$other" "$share" '0.2, and 0.08 s' "$verdict"
done
# With one partition and with many in turns, so that both have the same of whatever else the machine does.
into() {
    "$bandy" log create into --partitions "$1" -e "kafka://$at_ours" > /dev/null
    cost "$ours" produce "$at_ours" into
    remove into
}
for partitions in 10 100 1000; do
    rm -f "$work/one" "$work/many"
    for round in $(seq "$rounds"); do
        into 1 >> "$work/one"
        into "$partitions" >> "$work/many"
    done
    one=$(median < "$work/one") many=$(median < "$work/many")
    row "broker, a million records into $partitions partitions" "$many s" "one partition: $one s" "$(calc %.2f "$many / $one")"
done

# How long a producer waits for its records to be taken, at 10,000 records a second, in turns.
if [ -n "$at_theirs" ]; then
    rm -f "$work/ours.wait" "$work/theirs.wait"
    for round in $(seq "$rounds"); do
        for side in ours theirs; do
            [ "$side" = ours ] && to=$at_ours || to=$at_theirs
            $real "$bandy" log bench -e "kafka://$to" --rate 10k/s --for 5s --json 2> "$work/errors" | jq -r .ack_p99 >> "$work/$side.wait"
        done
    done
    own=$(median < "$work/ours.wait") other=$(median < "$work/theirs.wait")
    share=$(calc %.2f "$own / $other")
    row 'broker, 10,000 records a second: p99 until they are taken' "$own ms" "Apache Kafka: $other ms" "$share" 0.5 "$(at_most "$share" 0.5)"
fi
