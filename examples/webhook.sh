# A webhook that never loses a call: each is in a durable queue before the caller hears that all is well.
# What one sees: the answers to two calls, then what a worker finds in the queue after the broker was killed.
#> {"queued":true}
#> {"queued":true}
#> {"event":"push","branch":"main"}
#> {"event":"tag","name":"v1"}

set -eu
broker() { bandy mq broker --dir data -l :0 --background --pidfile pid; }
BANDY_MQ_URL=$(broker)
export BANDY_MQ_URL
cat >hook.proto <<'PROTO'
syntax = "proto3";
package hook;
import "google/protobuf/struct.proto";
service Hook { rpc Push(google.protobuf.Struct) returns (Answer); }
message Answer { bool queued = 1; }
PROTO
# 'send' exits with 0 when the broker has stored it: only then the answer is yes.
url=$(bandy rpc serve -l :0 --background --pidfile hook.pid --proto hook.proto -- sh -c 'bandy mq send --create hooks - && echo "{\"queued\":true}"')
trap 'kill $(cat pid hook.pid)' EXIT
# What a forge does: curl -d '{"event":"push"}' -H 'content-type: application/json' http://HOST:PORT/hook.Hook/Push
post() { bandy rpc call -e "http://${url#grpc://}" --protocol connect Hook/Push "$1"; }
post '{"event":"push","branch":"main"}'
post '{"event":"tag","name":"v1"}'
kill -9 "$(cat pid)"
rm -f pid
BANDY_MQ_URL=$(broker)
bandy mq recv hooks -n 2
