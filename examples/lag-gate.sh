# A gate on lag: a deployment waits until the readers of a log are done, and fails when they fall too far behind.
# What one sees: the gate is shut while records are unread, and open when they have been read.
#> shut, exit code 1
#> open

set -eu
BANDY_LOG_URL=$(bandy log broker --memory -l :0 --background --pidfile pid)
export BANDY_LOG_URL
trap 'kill "$(cat pid)"' EXIT
bandy log create bills
seq 100 | bandy log produce bills
bandy log consume bills -g billing -n 10 >/dev/null
bandy log info -g billing --max-lag 20 >/dev/null 2>&1 || echo "shut, exit code $?"
bandy log consume bills -g billing >/dev/null
bandy log info -g billing --max-lag 20 >/dev/null 2>&1 && echo open
