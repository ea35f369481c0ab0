#!/bin/bash
# Writes src/startup.ld: a linker script with the functions that idle servers and short commands run, those first that most idle
# servers run, and then those that most commands do.
#
#   benches/startup-order.sh
#
# A release build uses it (build.rs), so that a process touches few pages. The names are those that .cargo/config.toml asks for:
# each instance of a generic function has its own. They are without the hashes of crates, which change with versions and
# directories, and only as long as they must be to bring nothing else; a name that is no more does no harm. Needs valgrind. Set
# BANDY to a release build with its symbols (profile.release.strip=false).
[ -n "${BANDY:-}" ] || {
    export BANDY=target/order/release/bandy
    CARGO_TARGET_DIR=target/order cargo build --release --config profile.release.strip=false
}
. "$(dirname "$0")/lib.sh"
runs=0
# Runs a command and notes its functions, and those of what it starts: COMMAND...
noted() {
    runs=$((runs + 1))
    valgrind --tool=callgrind --trace-children=yes --demangle=no --callgrind-out-file="$work/run$runs.%p" "$@"
}
# The same for a server; sets $url once it is ready. It is stopped by `stop`.
serve() {
    rm -f "$work/url"
    runs=$((runs + 1))
    valgrind --tool=callgrind --demangle=no --callgrind-out-file="$work/run$runs.%p" "$bandy" "$@" --url-file "$work/url" \
        > /dev/null 2>&1 & pid=$!
    pids+=("$pid")
    until [ -s "$work/url" ]; do kill -0 "$pid" && sleep 0.1; done
    url=$(head -1 "$work/url")
}
# What it ran is asked for before: not every server survives its end under valgrind. What it runs while it waits, for some seconds,
# is a run of its own, in a second file: stop [SECONDS].
stop() {
    callgrind_control --dump "$pid" > /dev/null
    sleep "${1:-10}"
    callgrind_control --dump "$pid" > /dev/null
    kill -KILL "$pid" && wait "$pid" 2> /dev/null || true
}
client() { noted "$bandy" "$@" > /dev/null 2>> "$work/err" || { grep -v "^==" "$work/err" >&2; exit 1; }; }

client --version
serve rpc serve -l :0
client rpc call -e "$url" demo.Echo/Say text=hello
client rpc call -e "$url" Echo/Say text=hello
stop
serve mq broker -l :0 --dir "$work/mq"
client mq send jobs hello --create -e "$url"
client mq recv jobs -e "$url"
stop
serve log broker -l :0 --dir "$work/log"
client log produce orders hello --create -e "$url"
client log consume orders -e "$url"
stop
# A node that has somebody to talk to, and hears news and of a failure.
serve gossip join -l 127.0.0.1:0 --rpc none --name first --alone
seed=$(grep -m1 '^gossip:' "$work/url")
for name in peer gone; do
    "$bandy" gossip join -l 127.0.0.1:0 --rpc none --name "$name" "$seed" > /dev/null 2>&1 & pids+=($!)
done
"$bandy" gossip wait --members 3 -e local:first > /dev/null
"$bandy" gossip event news hello -e local:first > /dev/null
kill -KILL "${pids[-1]}"
"$bandy" gossip wait --status failed -e local:first --timeout 60s > /dev/null
# Long enough for an exchange of states.
stop 60
client up
"$bandy" down --all > /dev/null

python3 - "$work" "$bandy" "$tree/src/startup.ld" << 'PYTHON'
import bisect, collections, glob, itertools, re, subprocess, sys
work, program, script = sys.argv[1:]
# Crates have a hash of their version and directory in their names.
without_hash = lambda name: re.sub(r'Cs[0-9A-Za-z]+_', 'Cs*_', name)
# Which runs ran it, of the functions of Rust.
runs = collections.defaultdict(set)
for path in sorted(glob.glob(work + '/run*.*')):
    with open(path) as lines:
        for line in lines:
            if found := re.match(r"c?fn=\(\d+\) (_R[^'\s]+)", line):
                runs[found[1]].add(path)
same = collections.defaultdict(set)
for line in subprocess.run(['nm', program], capture_output=True, text=True).stdout.splitlines():
    if found := re.match(r'([0-9a-f]+) [tT] (_R\S+)', line):
        same[found[1]].add(found[2])
# Machine code that the linker keeps once for many functions has all of their names, and lies where one of them does.
used = collections.defaultdict(set)
for names in same.values():
    for name in names:
        used[without_hash(name)] |= set().union(*(runs[name] for name in names if name in runs))
# A second file of a process is what it ran while it waited: the pages that it keeps.
def order(name):
    idle = sorted(run for run in used[name] if run.endswith('.2'))
    return -len(idle), idle, -len(used[name]), sorted(used[name])
# A name is as long as it must be to bring nobody that comes later; some more, so that what is new stays out.
SPARE = 6
def shortest(name, later):
    at = bisect.bisect_left(later, name)
    shared = lambda other: next((i for i, (a, b) in enumerate(zip(name, other)) if a != b), min(len(name), len(other)))
    return name[:max(map(shared, later[max(at - 1, 0):at + 1]), default=0) + 1 + SPARE] + '*'
later = sorted(used)
count = 0
with open(script, 'w') as file:
    file.write('/* Written by benches/startup-order.sh. */\nSECTIONS {\n  .text.startup_order : {\n')
    for _, names in itertools.groupby(sorted(filter(used.get, used), key=lambda name: (order(name), name)), order):
        names = list(names)
        gone = set(names)
        later = [name for name in later if name not in gone]
        names = list(dict.fromkeys(f'.text.{shortest(name, later)}' for name in names))
        count += len(names)
        # For each description the linker goes through all sections, and has its names in the cache meanwhile.
        for start in range(0, len(names), 100):
            file.write('    *(' + '\n      '.join(names[start:start + 100]) + ')\n')
    file.write('  }\n}\nINSERT BEFORE .text;\n')
print(count, 'names')
PYTHON
