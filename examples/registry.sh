# Finding a service by name: two servers register, callers name the registry and never an address.
# What one sees: replies of both, and of one only when the other has stopped and taken its name away.
#> from a
#> from b
#> after a has stopped:
#> from b

set -eu
mkfifo registry
bandy rpc registry -l :0 >registry &
trap 'kill $! "$(cat b.pid)"' EXIT
read -r at <registry
for name in a b; do
  bandy rpc serve -l :0 --background --pidfile "$name.pid" --register "$at" --service-name greeter hello="echo from $name" >/dev/null
done
for _ in $(seq 16); do bandy rpc call -e "$at/greeter" hello x; done | sort -u
kill "$(cat a.pid)"
while [ -e a.pid ]; do sleep 1; done
echo "after a has stopped:"
for _ in 1 2; do bandy rpc call -e "$at/greeter" hello x; done | sort -u
