#!/bin/bash
# Runs h2spec, all cases of RFC 7540 and 7541, against `bandy rpc serve`: plain and with TLS.
# Needs h2spec: go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
#
# A server may reply before it has seen all of a request. h2spec takes such a reply for the answer to the mistake that
# it makes later in the request. So replies are delayed for longer than it needs to make the mistake.
set -euo pipefail
PATH=$PATH:$(go env GOPATH)/bin
command -v h2spec > /dev/null || { echo "h2spec is not installed" >&2; exit 1; }
cd "$(dirname "$0")/../.."
# With an example, so that the dependencies are those of the tests and nothing is compiled twice.
cargo build --quiet --bin bandy --example echo_server
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}"; rm -rf "$work"' EXIT

serve() { # URL file, flags
    "${CARGO_TARGET_DIR:-target}/debug/bandy" rpc serve -l 127.0.0.1:0 --delay 500ms --url-file "$1" "${@:2}" > /dev/null &
    pids+=($!)
    "${CARGO_TARGET_DIR:-target}/debug/bandy" wait --url-file "$1"
}

check() { # URL file, flags of h2spec
    local status=0
    h2spec --strict --timeout 5 --port "$(sed 's/.*://' "$1")" "${@:2}" \
        --path '/demo.Greeter/Hello?encoding=json&message=%7B%7D' > "$1.output" 2>&1 || status=$?
    if [ "$status" = 0 ]; then tail -n 1 "$1.output"; else cat "$1.output"; fi
    return "$status"
}

serve "$work/plain"
serve "$work/tls" --tls-self-signed
check "$work/plain" & plain=$!
check "$work/tls" --tls --insecure
wait "$plain"
