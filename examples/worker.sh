# A worker: a process that is started once and answers every call, as lines of JSON.
# What one sees: three calls answered by one process, which counts them.
#> call 1
#> call 2
#> call 3

set -eu
cat >count.sh <<'WORKER'
#!/bin/sh
# An answer without an id goes to the oldest call. A line without "message" begins a stream.
n=0
while read -r line; do
  case $line in *'"message"'*) n=$((n + 1)); echo "{\"message\":{\"message\":\"call $n\"}}" ;; esac
done
WORKER
chmod +x count.sh
cat >counter.proto <<'PROTO'
syntax = "proto3";
package counter;
service Counter { rpc Next(Empty) returns (Reply); }
message Empty {}
message Reply { string message = 1; }
PROTO
url=$(bandy rpc serve -l :0 --background --pidfile pid --proto counter.proto --workers 1 -- ./count.sh)
trap 'kill "$(cat pid)"' EXIT
for _ in 1 2 3; do
  bandy rpc call -e "$url" Counter/Next -o '%{value.message}'
done
