# Dead letters, played again: orders that a bug refused go back to where they came from once the bug is mended.
# What one sees: what the first version could do, what was refused, and what the second version does with it.
#> done: 1 apple
#> refused: 2 pears
#> done: 2 pears

set -eu
BANDY_MQ_URL=$(bandy mq broker --memory -l :0 --background --pidfile pid)
export BANDY_MQ_URL
trap 'kill "$(cat pid)"' EXIT
bandy mq create refused
bandy mq create orders --dead-letter refused
printf '%s\n' '1 apple' '2 pears' | bandy mq send orders
# The first version knows no pears. Without --dead-letter a refusal goes where the queue says.
bandy mq recv orders -f --idle 1s --retries 0 -- sh -c 'read -r o; [ "${o#*pears}" = "$o" ] && echo "done: $o"' 2>/dev/null || true
bandy mq peek refused -o 'refused: %v'
bandy mq move refused --origin=queue 2>/dev/null
bandy mq recv orders -n 1 -- sh -c 'read -r o; echo "done: $o"'
