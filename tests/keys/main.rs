//! The life of master keys, by the command line alone: on a mounted vault and on one that is not.

#[path = "../common/mod.rs"]
mod common;

mod assign;
mod backup;
mod both;
mod disable;
mod protectors;
mod refused;
mod retire;
mod schedule;

use std::fs;
use std::path::Path;
use std::process::Command;

use atrest::format::{HEADER_LEN, Header, KeyVersion, MasterKeyId};
use serde_json::Value;

use common::{Outcome, Vault, run};

/// `atrest key COMMAND VAULT ARGS…`
#[track_caller]
fn key(vault: &Vault, command: &[&str], args: &[&str]) -> Outcome {
    run(&mut key_command(vault, command, args))
}

fn key_command(vault: &Vault, command: &[&str], args: &[&str]) -> Command {
    let mut line = vault.command(&["key"]);
    line.args(command).arg(vault.path()).args(args);
    line
}

/// The same with `--json`, which must succeed.
#[track_caller]
fn key_json(vault: &Vault, command: &[&str], args: &[&str]) -> Value {
    let outcome = run(key_command(vault, command, args).arg("--json")).ok();
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

/// The description of one master key.
#[track_caller]
fn described(vault: &Vault, name: &str) -> Value {
    key_json(vault, &["describe"], &[name])
}

/// Which master key and version protect a file, by its path in the vault's directory.
fn protection(stored: &Path) -> (MasterKeyId, KeyVersion) {
    let bytes = fs::read(stored).unwrap();
    let header = Header::parse(bytes[..HEADER_LEN].try_into().unwrap()).unwrap();
    (header.master_key, header.version)
}

fn version_of(stored: &Path) -> u32 {
    protection(stored).1.0
}
