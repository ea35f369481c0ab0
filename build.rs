//! Asks the linker of release builds to leave out what costs room on disk and time at each start.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

/// Flags of linkers, each taken if this machine's linker knows it and what it makes runs here.
const WANTED: [&str; 2] = [
    // Functions of the same machine code are kept once. rust-lld and mold know it, GNU ld does not.
    "-Wl,--icf=all",
    // Relative relocations as a bitmap: 20 KB in place of 500 KB to be worked off at each start. Needs glibc 2.36.
    "-Wl,-z,pack-relative-relocs",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    let native = env::var("HOST") == env::var("TARGET");
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && native {
        for flag in WANTED.into_iter().filter(|flag| works(flag).unwrap_or(false)) {
            println!("cargo::rustc-link-arg-bins={flag}");
        }
    }
}

/// Links a program with that flag, and runs it.
fn works(flag: &str) -> Option<bool> {
    let directory = env::var_os("OUT_DIR")?;
    let (source, program) = (Path::new(&directory).join("probe.rs"), Path::new(&directory).join("probe"));
    fs::write(&source, "fn main() { println!(\"{:?}\", std::env::args()); }").ok()?;
    let mut compiler = Command::new(env::var_os("RUSTC")?);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    compiler.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    compiler.arg(format!("-Clink-arg={flag}")).arg("-o").arg(&program).arg(&source);
    let quietly = |command: &mut Command| {
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    Some(quietly(&mut compiler) && quietly(&mut Command::new(&program)))
}
