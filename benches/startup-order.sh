#!/bin/bash
# Writes src/startup.ld: a linker script with the functions that short commands and idle servers run, those first that most of
# them run.
#
#   benches/startup-order.sh
#
# A release build uses it (build.rs), so that a process touches few pages. The names are without their hashes, which change with
# every compiler and library; a name that is no more does no harm. Of what has many instances, of which few run, these few have
# their hashes: the name would bring all of them. Needs valgrind. Set BANDY to a release build with its symbols
# (profile.release.strip=false).
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
# What it ran is asked for before: not every server survives its end under valgrind. Some seconds of waiting belong to it.
stop() {
    sleep 8
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
stop
client up
"$bandy" down --all > /dev/null

python3 - "$work" "$bandy" "$tree/src/startup.ld" << 'PYTHON'
import collections, glob, itertools, re, subprocess, sys
work, program, script = sys.argv[1:]
# Of both manglings: that of our crates, and that of the standard library, which names a crate by its hash.
without_hash = lambda name: re.sub(r'Cs[0-9A-Za-z]+_', 'Cs*_', re.sub(r'17h[0-9a-f]{16}E(\.llvm\.\d+)?$', '17h', name))
runs = collections.defaultdict(set)
for path in sorted(glob.glob(work + '/run*.*')):
    with open(path) as lines:
        for name in {line.split()[1].split("'")[0] for line in lines if re.match(r'c?fn=\(\d+\) _(ZN|R)', line)}:
            runs[name].add(path)
# Bytes of all instances of a name, and those that ran.
every, ran = collections.Counter(), collections.defaultdict(dict)
used, same = collections.defaultdict(set), collections.defaultdict(set)
symbols = [line.split() for line in subprocess.run(['nm', '-S', program], capture_output=True, text=True).stdout.splitlines()]
symbols = [(fields[0], int(fields[1], 16), fields[3]) for fields in symbols if len(fields) == 4]
for address, size, name in symbols:
    every[without_hash(name)] += size
    same[address].add(name)
for address, size, name in symbols:
    if name in runs:
        # Machine code that the linker keeps once for many functions has all of their names, and lies where one of them does.
        for other in same[address]:
            ran[without_hash(other)][other] = size
            used[without_hash(other)] |= runs[name]
            used[other] |= runs[name]
wanted = {}
for name, instances in ran.items():
    if every[name] <= max(2 * sum(instances.values()), 2000):
        wanted[name + '*'] = used[name]
    else:
        wanted |= {instance: used[instance] for instance in instances}
# For each description the linker goes through all sections, and has its names in the cache meanwhile: a hundred at once.
order = lambda name: (-len(wanted[name]), sorted(wanted[name]))
with open(script, 'w') as file:
    file.write('/* Written by benches/startup-order.sh. */\nSECTIONS {\n  .text.startup_order : {\n')
    for _, names in itertools.groupby(sorted(wanted, key=lambda name: (order(name), name)), order):
        names = [f'.text.{name}' for name in names]
        for start in range(0, len(names), 100):
            file.write('    *(' + '\n      '.join(names[start:start + 100]) + ')\n')
    file.write('  }\n}\nINSERT BEFORE .text;\n')
print(len(wanted), 'names')
PYTHON
