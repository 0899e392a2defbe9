//! The `smsd` program.

fn main() -> std::process::ExitCode {
    smsd::cli::main()
}
