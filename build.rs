//! Asks the linker of release builds to leave out what costs room on disk and time at each start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// A linker script that puts the functions first that short commands and idle servers run; benches/startup-order.sh writes it.
const ORDER: &str = "src/startup.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    let native = env::var("HOST") == env::var("TARGET");
    let Some(directory) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && native {
        for flag in wanted(&directory) {
            println!("cargo::rustc-link-arg-bins={flag}");
        }
    }
}

/// Flags that this machine's linker knows, and with which what it makes runs here.
fn wanted(directory: &Path) -> Vec<String> {
    let works = |flag: &String| works(flag, directory).unwrap_or(false);
    // Functions of the same machine code are kept once.
    let fold = "-Wl,--icf=all".to_owned();
    let mut flags = Vec::new();
    // rust-lld knows it, and then takes seconds for the order of functions, where GNU ld would take minutes. Side by side,
    // they fill few pages; in the order of the source, a page has one here and there.
    if works(&fold) {
        flags.push(fold);
        let tree = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        flags.extend(Some(format!("-Wl,-T,{}", tree.join(ORDER).display())).filter(works));
    }
    // At a fixed address, as Go's programs are: nothing is relocated at each start, and processes share the pages of
    // constants. Stack, heap and libraries stay where chance puts them.
    flags.extend(Some("-no-pie".to_owned()).filter(works));
    // Unwinding from the compiler's archive in place of its shared library, which would have to be loaded.
    let archive = directory.join("unwind");
    let script =
        fs::create_dir_all(&archive).and_then(|()| fs::write(archive.join("libgcc_s.so"), "INPUT(-lgcc_eh)"));
    flags.extend(script.ok().map(|()| format!("-L{}", archive.display())).filter(works));
    flags
}

/// Links a program with that flag, and runs it: it unwinds.
fn works(flag: &str, directory: &Path) -> Option<bool> {
    let (source, program) = (directory.join("probe.rs"), directory.join("probe"));
    fs::write(
        &source,
        "fn main() { assert!(std::panic::catch_unwind(|| panic!(\"{:?}\", std::env::args())).is_err()) }",
    )
    .ok()?;
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
