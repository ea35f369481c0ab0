#!/usr/bin/jq -cf
# A handler in jq: the request is the input, the reply the output.
{message: "Hello, \(.name // "world")!"}
