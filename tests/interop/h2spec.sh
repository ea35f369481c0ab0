#!/bin/bash
# Runs h2spec, all cases of RFC 7540 and 7541, against `bandy rpc serve`: plain and with TLS.
# Needs h2spec: go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
#
# A server may reply before it has seen all of a request. h2spec takes such a reply for the answer to the mistake that
# it makes later in the request. So replies are delayed, and a case has failed if it fails in each of three runs.
set -euo pipefail
PATH=$PATH:$(go env GOPATH)/bin
command -v h2spec > /dev/null || { echo "h2spec is not installed" >&2; exit 1; }
cd "$(dirname "$0")/../.."
cargo build --quiet --bin bandy
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}"; rm -rf "$work"' EXIT

serve() { # URL file, flags
    "${CARGO_TARGET_DIR:-target}/debug/bandy" rpc serve -l 127.0.0.1:0 --delay 100ms --url-file "$1" "${@:2}" > /dev/null &
    pids+=($!)
    until [ -s "$1" ]; do sleep 0.02; done
}

check() { # URL file, flags of h2spec
    local port run
    port=$(sed 's/.*://' "$1")
    for run in 1 2 3; do
        if h2spec --strict --timeout 5 --port "$port" "${@:2}" \
            --path '/demo.Greeter/Hello?encoding=json&message=%7B%7D' > "$work/run.$run" 2>&1; then
            tail -n 1 "$work/run.$run"
            return 0
        fi
        sed -n '/^Failures/,$p' "$work/run.$run" | grep '×' | sort > "$work/failed.$run" || break
        [ "$run" = 1 ] || comm -12 "$work/failed.$((run - 1))" "$work/failed.$run" > "$work/both"
        [ "$run" = 1 ] || mv "$work/both" "$work/failed.$run"
        if ! [ -s "$work/failed.$run" ]; then
            tail -n 1 "$work/run.$run"
            return 0
        fi
    done
    cat "$work/run.$run"
    return 1
}

serve "$work/plain"
serve "$work/tls" --tls-self-signed
check "$work/plain"
check "$work/tls" --tls --insecure
