#!/bin/bash
# Writes src/startup.order: the functions that short commands and idle servers run, those first that most of them run.
#
#   benches/startup-order.sh
#
# The linker puts them side by side, so that a process touches few pages: a release build takes the list where the linker is
# rust-lld (build.rs). Names carry a hash of the compiler's version, so this has to be run again for a new compiler; names that
# are no more do no harm. Needs valgrind. Set BANDY to a release build with its symbols (profile.release.strip=false).
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
# What it ran is asked for before: not every server survives its end under valgrind.
stop() {
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

python3 - "$work" "$tree/src/startup.order" << 'PYTHON'
import collections, glob, re, sys
runs = collections.defaultdict(list)
for path in sorted(glob.glob(sys.argv[1] + '/run*.*')):
    with open(path) as lines:
        for name in {line.split()[1].split("'")[0] for line in lines if re.match(r'c?fn=\(\d+\) _ZN', line)}:
            runs[name].append(path)
order = sorted(runs, key=lambda name: (-len(runs[name]), runs[name], name))
with open(sys.argv[2], 'w') as file:
    file.writelines(name + '\n' for name in order)
print(len(order), 'functions')
PYTHON
