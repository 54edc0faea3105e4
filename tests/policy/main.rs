//! Who may use a master key: real users, real opens, root only.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod deep;
mod drop_box;
mod load;
mod matrix;
mod moves;
#[path = "../common/people.rs"]
mod people;
mod separation;
mod strict;

use serde_json::Value;

use common::{Outcome, Vault, run};

/// `atrest key COMMAND VAULT ARGS…`, with the arguments as one would type them.
#[track_caller]
fn key(vault: &Vault, command: &str, args: &str) -> Outcome {
    let words = args.split(' ').filter(|word| !word.is_empty());
    run(vault.command(&["key", command]).arg(vault.path()).args(words))
}

#[track_caller]
fn grant(vault: &Vault, args: &str) {
    key(vault, "grant", args).ok();
}

#[track_caller]
fn revoke(vault: &Vault, args: &str) {
    key(vault, "revoke", args).ok();
}

/// What `atrest policy simulate` says, as JSON.
#[track_caller]
fn simulate(vault: &Vault, user: &str, path: &str, operation: &str) -> Value {
    let mut command = vault.command(&["policy", "simulate", "--json", "--user", user]);
    let outcome = run(command.arg(vault.path()).args([path, operation])).ok();
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}
