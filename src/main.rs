//! The program `atrest`. All of it is in the library.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    atrest::cli::run(&arguments).into()
}
