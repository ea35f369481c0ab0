#!/bin/bash
# Runs gRPC's own interoperability cases, as grpc-go implements them, against our server.
# Needs grpc-interop-client (tests/interop/grpc-interop-install.sh).
#
# Left out of what grpc-go's client offers: the eight cases whose credentials only Google's cloud gives out.
# The four cases of compression are in no client that a registry has built; connectconformance tests compression.
set -euo pipefail
PATH=$PATH:$(go env GOPATH)/bin
command -v grpc-interop-client > /dev/null || { echo "grpc-interop-client is not installed" >&2; exit 1; }
cd "$(dirname "$0")/../.."
cargo build --quiet --example grpc_testing_server
work=$(mktemp -d)
"${CARGO_TARGET_DIR:-target}/debug/examples/grpc_testing_server" 127.0.0.1:0 > "$work/address" &
trap 'kill $!; rm -rf "$work"' EXIT
until grep -q : "$work/address"; do sleep 0.02; done
port=$(sed 's/.*://' "$work/address")

cases="empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server
    cancel_after_begin cancel_after_first_response status_code_and_message special_status_message custom_metadata
    unimplemented_method unimplemented_service pick_first_unary orca_per_rpc orca_oob rpc_soak channel_soak"
failed=0
for case in $cases; do
    flags=()
    # Load reports are for a balancer of the client's own that compares them.
    [[ $case != orca_* ]] || flags=('--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}')
    if grpc-interop-client "${flags[@]}" --server_host=127.0.0.1 --server_port="$port" --test_case="$case" --soak_iterations=10 \
        --soak_overall_timeout_seconds=60 > "$work/output" 2>&1; then
        echo "ok      $case"
    else
        echo "FAILED  $case"; cat "$work/output"; failed=1
    fi
done
exit $failed
