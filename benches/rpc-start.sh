#!/bin/bash
# How long bandy takes to start, and how little it needs: --version, rpc serve from exec to its ready line, idle memory, size.
#
#   benches/rpc-start.sh [RUNS]
#
# Medians over the runs; the bars are those of the project: 5 ms, 20 ms, 15 MB, 12 MB.
set -euo pipefail
runs=${1:-40}
cd "$(dirname "$0")/.."
[ -n "${BANDY:-}" ] || cargo build --quiet --release
bandy=${BANDY:-${CARGO_TARGET_DIR:-target}/release/bandy}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BANDY_HOME=$work/home

median() { sort -n | awk '{ all[NR] = $1 } END { printf "%.1f", all[int((NR + 1) / 2)] }'; }

# Milliseconds from now until the command has printed its first line; what it started is stopped.
first_line() {
    local start=${EPOCHREALTIME/./} line
    exec 3< <(exec "$@" 2> /dev/null)
    local pid=$!
    read -r line <&3
    local end=${EPOCHREALTIME/./}
    kill "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
    exec 3<&-
    awk -v us="$((end - start))" 'BEGIN { print us / 1000 }'
}

many() { for _ in $(seq "$runs"); do first_line "$@"; done | median; }

echo "a shell that starts /bin/echo: $(many /bin/echo x) ms"
echo "bandy --version: $(many "$bandy" --version) ms"
echo "bandy rpc serve, ready: $(many "$bandy" rpc serve) ms"
echo "bandy rpc serve upper=…, ready: $(many "$bandy" rpc serve "upper=tr a-z A-Z") ms"

"$bandy" rpc serve --ready-fd 3 3> "$work/ready" > /dev/null 2>&1 &
pid=$!
until [ -s "$work/ready" ]; do kill -0 "$pid"; done
awk '/^VmRSS/ { printf "bandy rpc serve, idle with the built-in services: %.1f MB\n", $2 / 1024 }' "/proc/$pid/status"
kill "$pid"
wait "$pid" || true
echo "$bandy: $(awk -v size="$(stat -c %s "$bandy")" 'BEGIN { printf "%.1f MB", size / 1000000 }')"
