//! Entry point: parse, run, exit. Everything else is in the library.

fn main() -> std::process::ExitCode {
    bandy::cli::main()
}
