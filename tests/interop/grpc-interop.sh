#!/bin/bash
# Runs gRPC's own interoperability cases, as grpc-go implements them, against our server.
#
# Left out: cases that need Google's cloud, load reports (ORCA), several servers that tell their names, or a server
# that compresses some of its replies on demand.
set -euo pipefail
client=${GRPC_INTEROP_CLIENT:-$(go env GOPATH)/bin/grpc-interop-client}
if [ ! -x "$client" ]; then
    # The command is called `client`; build it under a name that says whose.
    (cd "$(mktemp -d)" && go mod init interop && go get google.golang.org/grpc/interop/client@latest &&
        go build -o "$client" google.golang.org/grpc/interop/client) > /dev/null
fi
cd "$(dirname "$0")/../.."
cargo build --quiet --example grpc_testing_server
port=${PORT:-18183}
"${CARGO_TARGET_DIR:-target}/debug/examples/grpc_testing_server" "127.0.0.1:$port" &
trap "kill $!" EXIT
until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do sleep 0.05; done

failed=0
cases="empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server
    cancel_after_begin cancel_after_first_response status_code_and_message special_status_message custom_metadata
    unimplemented_method unimplemented_service rpc_soak channel_soak"
for case in $cases; do
    if "$client" --server_host=127.0.0.1 --server_port="$port" --test_case="$case" --soak_iterations=10 \
        --soak_overall_timeout_seconds=60 > /tmp/interop-case.$$ 2>&1; then
        echo "ok      $case"
    else
        echo "FAILED  $case"; cat /tmp/interop-case.$$; failed=1
    fi
done
rm -f /tmp/interop-case.$$
exit $failed
