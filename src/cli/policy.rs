//! `atrest policy`: who may use the master keys, and what that comes to.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use crate::cli::backend::Backend;
use crate::cli::output::{print, print_json};
use crate::cli::target::{Target, within};
use crate::cli::vault_args::VaultArgs;
use crate::fs::{Operation, Use, Verdict};
use crate::keys::Timestamp;
use crate::keys::policy::Reason;
use crate::service::failure::{Exit, Failure};
use crate::service::principals;
use crate::service::request::Request;
use crate::service::response::Policies;
use crate::service::text::grant_words;

/// Who may use the master keys, and what that comes to.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the grants of every master key
    Show(VaultArgs),
    /// Say what the policies let a user do with a file, and why; modes and owners decide besides
    Simulate(SimulateArgs),
}

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// The user, by name or number
    #[arg(long, value_name = "U")]
    user: String,
    /// The file, as it is in the mount
    path: PathBuf,
    /// What they want with it
    operation: Wish,
}

/// The operations, as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wish {
    /// Open it for reading
    Read,
    /// Open it for writing, without emptying it
    Write,
    /// Make it, or empty it and write it anew
    Create,
}

/// Runs a subcommand of `atrest policy`.
///
/// # Errors
/// [`Exit::Policy`] where the policies let the caller see no key; [`Exit::KeyFile`],
/// [`Exit::Usage`], [`Exit::Failed`].
pub fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Show(args) => show(args),
        Command::Simulate(args) => simulate(args),
    }
}

fn show(args: &VaultArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault)?;
    let backend = Backend::for_reading(&target, args)?;
    let policies: Policies = backend.perform(&Request::Policies, &|_| ())?;
    if args.json {
        print_json(&json!(policies))?;
    } else {
        print(&to_text(&policies))?;
    }
    Ok(Exit::Done)
}

fn simulate(args: &SimulateArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault.vault)?;
    let path = within(&args.path, &target)?;
    let uid = principals::user(&args.user)?;
    let (gid, groups) = principals::groups_of(uid)?;
    let operation = match args.operation {
        Wish::Read => Operation::Read,
        Wish::Write => Operation::Write,
        Wish::Create => Operation::Create,
    };
    let backend = Backend::of(&target, &args.vault)?;
    let request = Request::Simulate { uid, gid, groups, path, operation };
    let verdict: Verdict = backend.perform(&request, &|_| ())?;
    if args.vault.json {
        print_json(&json!(verdict))?;
    } else {
        print(&explained(&verdict, &principals::user_name(uid)))?;
    }
    Ok(Exit::Done)
}

fn to_text(policies: &Policies) -> String {
    let owner = principals::user_name(policies.owner);
    let mut text = String::new();
    for key in &policies.keys {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {}", key.name, key.id);
        let _ = writeln!(text, "  by default: root and the vault's owner, {owner}, may everything");
        for grant in &key.grants {
            let over = if grant.is_in_force(Timestamp::now()) { "" } else { "  (over)" };
            let _ = writeln!(text, "  {}{over}", grant_words(grant));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// What decides and why, for a person.
fn explained(verdict: &Verdict, user: &str) -> String {
    let key = &verdict.key;
    let mut text = if verdict.allowed { "allowed" } else { "denied" }.to_owned();
    for Use { action, decision } in &verdict.uses {
        let may = if decision.allowed { "may" } else { "may not" };
        let why = match &decision.reason {
            Reason::Grant(grant) => format!("the grant {}", grant_words(grant)),
            Reason::Default => "the default, which is for root and the vault's owner".to_owned(),
            Reason::NoGrant => "no grant allows it".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {user} {may} {action} with the master key `{key}`: {why}");
    }
    if verdict.key_state != "enabled" {
        let _ =
            write!(text, "\n  nobody may use the master key `{key}`: it is {}", verdict.key_state);
    }
    text
}
