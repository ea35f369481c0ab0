# An audit of a cluster: who came and who went, kept in a log that can be read again.
# What one sees: what the log says happened, the node itself first.
#> n2 alive
#> n2 left

set -eu
# A home of its own: no node of yours is asked or joined.
BANDY_HOME=$(mktemp -d)
export BANDY_HOME
BANDY_LOG_URL=$(bandy log broker --memory -l :0 --background --pidfile log.pid)
export BANDY_LOG_URL
bandy log create membership
seed=$(bandy gossip join --name n1 -l :0 --background --pidfile n1.pid | head -1)
trap 'kill $(cat log.pid n1.pid) 2>/dev/null; rm -rf "$BANDY_HOME" || :' EXIT
# --replay tells first what it has missed.
bandy gossip watch -e local:n1 --replay --event join --event leave -n 2 --json | bandy log produce membership --json &
audit=$!
bandy gossip join --name n2 -l :0 --background --pidfile n2.pid "$seed" >/dev/null
bandy gossip wait -e local:n1 --members 2 --timeout 30s
kill "$(cat n2.pid)"
wait "$audit"
bandy log consume membership -o '%k %v'
