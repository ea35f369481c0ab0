#!/bin/bash
# Lines to messages and back from the shell: `mq send` and `mq recv` beside amqp-tools, against the same broker in turns.
#
#   benches/mq-client.sh [ROUNDS]
#
# amqp-publish confirms nothing; amqp-consume starts a process for each message, so it takes fewer. Needs amqp-tools.
. "$(dirname "$0")/lib.sh"
rounds=${1:-3} lines=${LINES_EACH:-300000} few=500
have amqp-publish || { skip 'mq send and recv beside amqp-tools' 'amqp-tools is not installed'; exit 0; }
$real "$bandy" mq broker -l :0 --memory --url-file "$work/url" > /dev/null 2>&1 & pids+=($!)
url=$(url url amqp $!)
python3 -c "
import random
line = ''.join(random.choice('abcdefghijklmnopqrstuvwxyz') for _ in range(100))
print('\n'.join([line] * $lines))" > "$work/lines"
"$bandy" mq create q -e "$url" > /dev/null 2>&1
clock() { # records, a command: records per second
    local start=${EPOCHREALTIME/./}
    "${@:2}" > /dev/null
    calc '%.0f\n' "$1 * 1e6 / (${EPOCHREALTIME/./} - $start)"
}
ours_send() { "$bandy" mq send q -e "$url" < "$work/lines"; }
ours_recv() { "$bandy" mq recv q -n "$lines" -e "$url"; }
theirs_send() { amqp-publish -u "$url" -r q -l < "$work/lines"; }
theirs_recv() { amqp-consume -u "$url" -q q -c "$few" -p 100 cat; }
for _ in $(seq "$rounds"); do
    clock "$lines" ours_send >> "$work/ours.send"
    clock "$lines" ours_recv >> "$work/ours.recv"
    clock "$lines" theirs_send >> "$work/theirs.send"
    clock "$few" theirs_recv >> "$work/theirs.recv"
    "$bandy" mq purge q -y -e "$url" > /dev/null 2>&1
done
for what in send recv; do
    ours=$(median < "$work/ours.$what") theirs=$(median < "$work/theirs.$what")
    [ "$what" = send ] && peer='amqp-publish -l' || peer='amqp-consume cat'
    row "mq $what, lines of 100 bytes" "$(thousands "$ours")/s" "$peer: $(thousands "$theirs")/s" "$(calc %.1f "$ours / $theirs")" 2 \
        "$(at_least "$(calc %.3f "$ours / $theirs")" 2)"
done
