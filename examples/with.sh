# A server for as long as one command runs: no port to choose, nothing to stop, the command's own exit code.
# What one sees: a greeting by the temporary server, then the exit code 3 of a test that failed.
#> {"message":"Hello, Ada!"}
#> exit code 3

set -eu
bandy with rpc -- bandy rpc call Greeter/Hello name=Ada
bandy with rpc -- sh -c 'exit 3' || echo "exit code $?"
