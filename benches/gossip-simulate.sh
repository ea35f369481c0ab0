#!/bin/bash
# The simulator's paper model: a million nodes, and how the rounds grow with their number.
#
#   benches/gossip-simulate.sh [ROUNDS]
. "$(dirname "$0")/lib.sh"
rounds=${1:-3}
for _ in $(seq "$rounds"); do
    start=${EPOCHREALTIME/./}
    memory "$bandy" gossip simulate --nodes 1000000 >> "$work/memory"
    echo >> "$work/memory"
    calc '%.3f\n' "(${EPOCHREALTIME/./} - $start) / 1e6" >> "$work/seconds"
done
seconds=$(median < "$work/seconds") memory=$(median < "$work/memory")
row 'gossip simulate, a million nodes' "$seconds s, $memory MB" '' '' '1 s, 64 MB' "$(both "$(at_most "$seconds" 1)" "$(at_most "$memory" 64)")"
