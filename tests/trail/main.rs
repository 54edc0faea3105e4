//! The trail of key uses: real mounts, real users, and the lines compared with what was done. Root
//! only.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with the tests of the policy")]
#[path = "../common/people.rs"]
mod people;
#[allow(dead_code, reason = "shared with the tests of full disks")]
#[path = "../common/small_disk.rs"]
mod small_disk;

mod account;
mod again;
mod at_rest;
mod bad_input;
mod beginning;
mod crash;
mod day;
mod files;
mod full;
mod key_file;
mod places;
mod query;
mod refusals;
mod schedule;
mod separation;
mod sinks;
mod tampering;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use common::{Outcome, Vault, run};

/// `atrest GROUP COMMAND VAULT ARGS…`, with the arguments as one would type them.
fn command(vault: &Vault, words: [&str; 2], args: &str) -> std::process::Command {
    let mut command = vault.command(&words);
    command.arg(vault.path()).args(args.split(' ').filter(|word| !word.is_empty()));
    command
}

#[track_caller]
fn key(vault: &Vault, name: &str, args: &str) -> Outcome {
    run(&mut command(vault, ["key", name], args))
}

#[track_caller]
fn trail(vault: &Vault, name: &str, args: &str) -> Outcome {
    run(&mut command(vault, ["trail", name], args))
}

/// The lines that meet a query. Asking leaves none, for who can read the files.
#[track_caller]
fn lines(vault: &Vault, args: &str) -> Vec<Value> {
    let found = trail(vault, "query", &format!("--json {args}")).ok();
    found.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What happened, by name.
fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["eventName"].as_str().unwrap()).collect()
}

/// The trail must be whole.
#[track_caller]
fn assert_whole(vault: &Vault) {
    let said = trail(vault, "verify", "").ok();
    assert!(said.stdout.contains("as they were written"), "{said}");
}

/// Where the trail lies, unless a mount was told another place.
fn directory(vault: &Vault) -> PathBuf {
    let id = atrest::store::Vault::describe(&vault.path()).unwrap().vault;
    vault.scratch().join("home/state/atrest").join(id.to_string())
}

/// The trail's files, oldest first.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some()).collect();
    files.sort();
    files
}

#[track_caller]
fn one_sentence(outcome: &Outcome, code: i32, word: &str) {
    assert_eq!(outcome.code(), code, "{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.contains(word), "{word}: {outcome}");
}
