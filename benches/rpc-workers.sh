#!/bin/bash
# Calls per second that coprocess workers answer: `cat`, which is the cheapest worker there is, and others that are given.
#
#   benches/rpc-workers.sh ['jq -c --unbuffered {id,message}' …]
#
# h2load asks on 4 connections with 32 streams each; what counts is what the server itself counts as OK, because
# h2load takes every HTTP 200 for a success. Needs h2load (Debian: nghttp2-client) and curl.
. "$(dirname "$0")/lib.sh"
requests=${REQUESTS:-100000}
for tool in h2load curl; do
    have "$tool" || { skip 'calls that workers answer' "$tool is not installed"; exit 0; }
done
cat > "$work/echo.proto" << 'PROTO'
syntax = "proto3";
package echo;
service Echo { rpc Unary(Message) returns (Message); }
message Message { string text = 1; }
PROTO
# Message{text: "hello world"} behind its five-byte prefix.
printf '\0\0\0\0\015\012\013hello world' > "$work/request"

measure() { # NAME ARGUMENTS...: arguments of rpc serve
    local name=$1 metrics rate ok pid at
    shift
    rm -f "$work/url"
    "$bandy" rpc serve -l 127.0.0.1:0 --metrics 127.0.0.1:0 --url-file "$work/url" --proto "$work/echo.proto" "$@" \
        > /dev/null 2> "$work/err" & pid=$!
    pids+=("$pid")
    at=$(url url grpc "$pid")
    h2load -n "$requests" -c 4 -m 32 -t 1 -d "$work/request" -H 'content-type: application/grpc' -H 'te: trailers' \
        "http://${at#grpc://}/echo.Echo/Unary" > "$work/out"
    metrics=$(sed -n 's|metrics at ||p' "$work/err")
    ok=$(curl -s "$metrics" | sed -n 's|^bandy_rpc_calls_total{.*code="OK"} ||p')
    [ "$ok" = "$requests" ] || { echo "error: ${ok:-0} of $requests calls were OK" >&2; exit 1; }
    rate=$(sed -n 's|^finished in .*, \([0-9]*\)[0-9.]* req/s.*|\1|p' "$work/out")
    kill "$pid"
    wait "$pid" || true
    row "$name" "$(thousands "$rate")/s" '' '' 15,000/s "$(at_least "$rate" 15000)"
}

measure 'no worker: built-in echo' --echo
for command in cat "$@"; do
    for workers in 1 2; do
        measure "$workers x $command" --workers "$workers" -- sh -c "exec $command"
    done
done
