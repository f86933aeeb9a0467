//! The program: `perch`. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    perch::cli::main()
}
