# A gateway to a shell tool: a typed API in front of sort(1), for clients of every language.
# What one sees: the method as callers see it, a list that comes back sorted, and an error that keeps its code.
#> Sort
#> {"words":["apple","fig","pear"]}
#> exit code 67

set -eu
cat >words.proto <<'PROTO'
syntax = "proto3";
package words;
service Words { rpc Sort(List) returns (List); }
message List { repeated string words = 1; }
PROTO
cat >sort.sh <<'HANDLER'
#!/bin/sh
# The request is one line of JSON. Exit code 64+3 is INVALID_ARGUMENT, and the last line of stderr its message.
read -r request
case $request in *'"words"'*) ;; *) echo 'no words to sort' >&2; exit 67 ;; esac
list=$(printf '%s' "$request" | sed 's/.*\[//; s/\].*//' | tr , '\n' | LC_ALL=C sort | tr '\n' , | sed 's/,$//')
printf '{"words":[%s]}' "$list"
HANDLER
chmod +x sort.sh
url=$(bandy rpc serve -l :0 --background --pidfile pid --proto words.proto Words/Sort=./sort.sh)
trap 'kill "$(cat pid)"' EXIT
bandy rpc ls -e "$url" words.Words -o '%{method}'
bandy rpc call -e "$url" Words/Sort words:='["pear","apple","fig"]'
bandy rpc call -e "$url" Words/Sort || echo "exit code $?"
