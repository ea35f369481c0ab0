# A chat room in two commands: everybody who listens gets a copy of what anybody says.
# What one sees: the room as Ada and Bob see it, which is the same.
#> ada: hello, is anybody here?
#> bob: I am
#> both saw the same

set -eu
BANDY_MQ_URL=$(bandy mq broker --memory -l :0 --background --pidfile pid)
export BANDY_MQ_URL
trap 'kill "$(cat pid)"' EXIT
# In a terminal of its own each: bandy mq sub room -o '%H{from}: %v'
for who in ada bob; do
  bandy mq sub room -n 2 -g "$who" -o '%H{from}: %v' >"$who.room" &
  bandy mq wait "$who" --timeout 30s
done
# …and in another: bandy mq pub room -H from=ada
bandy mq pub room -H from=ada 'hello, is anybody here?'
bandy mq pub room -H from=bob 'I am'
wait
cat ada.room
cmp ada.room bob.room && echo "both saw the same"
