# A gate in CI: tests begin when the server answers, not after a guess of seconds.
# What one sees: "ready", then exit code 124 for a server that never comes.
#> ready
#> exit code 124

set -eu
bandy rpc serve -l :0 --url-file url --pidfile pid >/dev/null &
trap 'kill "$(cat pid)"' EXIT
bandy wait --url-file url --timeout 30s
bandy rpc wait -e "$(cat url)" demo.Greeter --timeout 10s && echo ready
bandy rpc wait -e unix:./nobody --timeout 200ms 2>/dev/null || echo "exit code $?"
