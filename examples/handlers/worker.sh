#!/bin/sh
# A worker in shell. Answers without an id go to the oldest call, which is right for a worker
# that answers one after the other.
while read -r line; do
  case $line in *'"message"'*) echo '{"message":{"message":"Hello from a shell"}}' ;; esac
done
