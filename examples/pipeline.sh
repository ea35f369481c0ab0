# Lines through a remote function: eight calls at a time on one connection, replies in the order of the lines.
# What one sees: a sum per line of input, as a bare number, then their total, and no jq anywhere.
#> 101
#> 102
#> 103
#> 104
#> 105
#> total 515

set -eu
url=$(bandy rpc serve -l :0 --background --pidfile pid)
trap 'kill "$(cat pid)"' EXIT
seq 5 | sed 's/.*/{"a": &, "b": 100}/' >requests
bandy rpc call -e "$url" Calc/Add --each -j 8 -o '%{value.value}' <requests | tee sums
awk '{ total += $1 } END { print "total", total }' sums
