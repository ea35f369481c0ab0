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

# Everything, with the real peers.
ci:
    .ci/run
