//! Other times, by libfaketime.

use std::process::Command;

use super::{Outcome, Vault, run};

/// The same command under another clock. Waiting still takes real time. Not by the program
/// `faketime`, which waits for daemons that its program leaves behind.
pub fn at(clock: &str, mut command: Command) -> Outcome {
    let library = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime, of the package faketime");
    command.env("LD_PRELOAD", library).env("FAKETIME", clock);
    run(command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
}

/// A vault that was made some time ago.
pub fn made(clock: &str, options: &[&str]) -> Vault {
    let vault = Vault::prepare();
    let mut init = vault.command(&["init"]);
    init.arg(vault.path()).args(options);
    at(clock, init).ok();
    vault
}
