#!/bin/bash
# Writes src/startup.ld: a linker script with the functions that short commands and idle servers run, those first that most of
# them run.
#
#   benches/startup-order.sh
#
# A release build uses it (build.rs), so that a process touches few pages. The names are without their hashes, which change with
# every compiler and library; a name that is no more does no harm. What has many instances, of which few run, is left out: it
# would bring all of them. Needs valgrind. Set BANDY to a release build with its symbols (profile.release.strip=false).
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
serve gossip join -l :0 --alone
stop
client up
"$bandy" down --all > /dev/null

python3 - "$work" "$bandy" "$tree/src/startup.ld" << 'PYTHON'
import collections, glob, re, subprocess, sys
work, program, script = sys.argv[1:]
# Of both manglings: that of our crates, and that of the standard library, which names a crate by its hash.
without_hash = lambda name: re.sub(r'Cs[0-9A-Za-z]+_', 'Cs*_', re.sub(r'17h[0-9a-f]{16}E(\.llvm\.\d+)?$', '17h', name))
runs = collections.defaultdict(set)
for path in sorted(glob.glob(work + '/run*.*')):
    with open(path) as lines:
        for name in {line.split()[1].split("'")[0] for line in lines if re.match(r'c?fn=\(\d+\) _(ZN|R)', line)}:
            runs[name].add(path)
# Bytes of all instances of a name, and of those that ran.
every, ran, used = collections.Counter(), collections.Counter(), collections.defaultdict(set)
for line in subprocess.run(['nm', '-S', program], capture_output=True, text=True).stdout.splitlines():
    fields = line.split()
    if len(fields) == 4:
        name = without_hash(fields[3])
        every[name] += int(fields[1], 16)
        if fields[3] in runs:
            ran[name] += int(fields[1], 16)
            used[name] |= runs[fields[3]]
wanted = [name for name in used if every[name] <= max(2 * ran[name], 2000)]
wanted.sort(key=lambda name: (-len(used[name]), sorted(used[name]), name))
with open(script, 'w') as file:
    file.write('/* Written by benches/startup-order.sh. */\nSECTIONS {\n  .text.startup_order : {\n')
    file.writelines(f'    *(.text.{name}*)\n' for name in wanted)
    file.write('  }\n}\nINSERT BEFORE .text;\n')
print(len(wanted), 'functions,', sum(every[name] for name in wanted), 'bytes')
PYTHON
