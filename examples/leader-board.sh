# A leader board without a server: scores spread by gossip, and every node can show all of them.
# What one sees: the board at another node than those where the scores were told.
#> 310 ada
#> 250 bob
#> 90 eve

set -eu
# A home of its own: no node of yours is asked or joined.
BANDY_HOME=$(mktemp -d)
export BANDY_HOME
trap 'kill $(cat n1.pid n2.pid n3.pid); rm -rf "$BANDY_HOME" || :' EXIT
for node in n1 n2 n3; do
  bandy gossip join --name "$node" -l :0 --background --pidfile "$node.pid" \
    $([ "$node" = n1 ] || echo "$seed") >urls
  [ "$node" = n1 ] && seed=$(head -1 urls)
done
bandy gossip wait --members 3 --timeout 30s
tell() { bandy gossip set -e "local:$1" "score/$2" "$3"; }
tell n1 ada 120; tell n2 bob 250; tell n1 ada 310; tell n2 eve 90
board() { bandy gossip keys -e "local:$1" score/ -o '%{value} %{key}' 2>/dev/null | sed 's|score/||' | sort -rn; }
# News needs a moment to get around.
until [ "$(board n3 | head -1)" = '310 ada' ] && [ "$(board n3 | wc -l)" -eq 3 ]; do sleep 0.1; done
board n3
