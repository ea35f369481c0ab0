# A remote function from a shell one-liner: served, found without an address, called.
# What one sees: HELLO, then a number of lines counted on the other side.
#> HELLO
#> 3

set -eu
url=$(bandy rpc serve -l :0 --background --pidfile pid upper='tr a-z A-Z' lines='wc -l | tr -d " "')
trap 'kill "$(cat pid)"' EXIT
bandy rpc call -e "$url" upper hello
printf '%s\n' one two three | bandy rpc call -e "$url" lines -d @-
