#!/bin/sh
# A handler in shell: request JSON on stdin, reply JSON on stdout, exit 64+N for gRPC status N.
name=$(sed -n 's/.*"name":"\([^"]*\)".*/\1/p')
if [ -z "$name" ]; then
  echo "whom shall I greet?" >&2
  exit 67 # INVALID_ARGUMENT
fi
printf '{"message":"Hello, %s, calling from %s"}\n' "$name" "$BANDY_PEER"
