# A server that fails: half of the calls are refused, the same ones every time because of --seed.
# What one sees: how many of twenty calls succeed without retries, and that all do with them.
#> some calls fail
#> with retries: 20

set -eu
url=$(bandy rpc serve -l :0 --background --pidfile pid --fail 50% --seed 7 upper='tr a-z A-Z')
trap 'kill "$(cat pid)"' EXIT
count() { for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do bandy rpc call -e "$url" "$@" 2>/dev/null || true; done | wc -l; }
[ "$(count upper x)" -lt 20 ] && echo "some calls fail"
echo "with retries: $(count upper x --retry 9 | tr -d ' ')"
