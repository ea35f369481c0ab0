# A copier of logs: every record of a topic goes to another broker with its key, headers and time; it goes on where it left off.
# What one sees: a first copy, then only what came since, and the same records on both sides.
#> copied 3
#> copied 1
#> the same on both sides

set -eu
here=$(bandy log broker --memory -l :0 --background --pidfile here.pid)
there=$(bandy log broker --memory -l :0 --background --pidfile there.pid)
trap 'kill "$(cat here.pid)" "$(cat there.pid)"' EXIT
bandy log create orders --partitions 2 -e "$here"
bandy log create orders --partitions 2 -e "$there"
printf '%s\n' 'ada:1 apple' 'bob:2 pears' 'ada:3 figs' | bandy log produce orders -K : -H source=shop -e "$here"
# The group remembers what was passed on; a copier that runs for good has -f.
copy() { bandy log consume orders -g copier --json -e "$here" | tee copied | bandy log produce orders --json -e "$there"; }
copy; echo "copied $(wc -l <copied | tr -d ' ')"
bandy log produce orders -k bob '4 plums' -e "$here"
copy; echo "copied $(wc -l <copied | tr -d ' ')"
all() { bandy log consume orders -o '%p %t %k %h %v' -e "$1" | LC_ALL=C sort; }
all "$here" >a; all "$there" >b
cmp a b && echo "the same on both sides"
