# verify writes nothing; fix rewrites.

verify:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
    cargo test

# Formats, and renders what is generated: man pages and completions.
fix:
    cargo fmt
    SNAPSHOTS=overwrite cargo test --test it generated

# One decoder (fuzz/targets.rs), for two minutes or as long as is said. Needs cargo-fuzz and a nightly toolchain.
fuzz target seconds="120":
    mkdir -p fuzz/corpus/{{target}}
    cd fuzz && cargo +nightly fuzz run --fuzz-dir . {{target}} corpus/{{target}} seeds/{{target}} -- -max_total_time={{seconds}} -max_len=16384 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64

# Everything, with the real peers.
ci:
    .ci/run
