#!/bin/bash
# A release build from nothing: how long it takes, and how much processor time.
#
#   benches/build.sh
. "$(dirname "$0")/lib.sh"
cargo fetch --quiet --manifest-path "$tree/Cargo.toml"
TIMEFORMAT='%R %U %S'
read -r wall user system < <({ time CARGO_TARGET_DIR=$work/target cargo build --quiet --release --manifest-path "$tree/Cargo.toml" >&2; } 2>&1 | tail -1)
row 'cold cargo build --release' "$(calc %.0f "$wall") s, of processors $(calc %.0f "$user + $system") s" '' '' '360 s on 2 cores' "$(at_most "$wall" 360)"
