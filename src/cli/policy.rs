//! `atrest policy`: who may use the master keys, and what that comes to.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::format::MasterKeyId;
use crate::fs::{Operation, Use, Verdict};
use crate::keys::policy::{Asker, Effect, Grant, Principal, Reason};
use crate::keys::{KeyRing, MasterKey, Timestamp};
use crate::store::Access;
use crate::sys::Show;

use super::control::Request;
use super::exit::{Context, Exit, Failure, print, print_json};
use super::key::VaultArgs;
use super::principals;
use super::target::{Daemon, Target};
use super::vault::{self, Age, Keys};
use super::verify::within;

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

/// The policy of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPolicy {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: MasterKeyId,
    /// Its grants, in the order they were made.
    pub grants: Vec<Grant>,
}

/// What `show --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// The user of the vault's directory, to whom with root the default lets everything.
    pub owner: u32,
    /// The keys.
    pub keys: Vec<KeyPolicy>,
}

impl Policies {
    /// Of the keys that `may_see` lets through.
    pub fn of(ring: &KeyRing, owner: u32, may_see: impl Fn(&MasterKey) -> bool) -> Self {
        let policy = |key: &MasterKey| KeyPolicy {
            name: key.name().to_owned(),
            id: key.id(),
            grants: key.policy().grants().to_vec(),
        };
        Self { owner, keys: ring.keys().filter(|key| may_see(key)).map(policy).collect() }
    }

    fn to_text(&self) -> String {
        let owner = principals::user_name(self.owner);
        let mut text = String::new();
        for key in &self.keys {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}  {}", key.name, key.id);
            let _ =
                writeln!(text, "  by default: root and the vault's owner, {owner}, may everything");
            for grant in &key.grants {
                let over = if grant.is_in_force(Timestamp::now()) { "" } else { "  (over)" };
                let _ = writeln!(text, "  {}{over}", words(grant));
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// A grant in the words of the command line.
pub fn words(grant: &Grant) -> String {
    let whom = match grant.principal {
        Principal::User(uid) => format!("--user {}", principals::user_name(uid)),
        Principal::Group(gid) => format!("--group {}", principals::group_name(gid)),
        Principal::Everyone => "--everyone".to_owned(),
    };
    let effect = match grant.effect {
        Effect::Allow => "--allow",
        Effect::Deny => "--deny",
    };
    let until = grant.until.map_or_else(String::new, |until| format!(" --until {until}"));
    let under = grant
        .under
        .as_ref()
        .map_or_else(String::new, |under| format!(" --under {}", under.shown()));
    format!("{whom} {effect} {}{until}{under}", grant.actions)
}

/// Does what is asked.
///
/// # Errors
/// [`Exit::Policy`] where the daemon does not let who asks see it; [`Exit::KeyFile`],
/// [`Exit::Usage`], [`Exit::Failed`].
pub fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Show(args) => show(args),
        Command::Simulate(args) => simulate(args),
    }
}

fn show(args: &VaultArgs) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault)?;
    let policies: Policies = match (&args.key_file, target.daemon()?) {
        (None, Daemon::Reached(client)) => {
            let policies = client.ask(&Request::Policies, &mut |_| ())?;
            serde_json::from_value(policies).or_fail(Exit::Failed, || "the daemon".to_owned())?
        }
        _ => {
            Policies::of(&args.open_keys()?.read()?.ring, target.vault.metadata()?.uid(), |_| true)
        }
    };
    if args.json {
        print_json(&json!(policies))?;
    } else {
        print(&policies.to_text())?;
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
    let verdict: Verdict = match target.daemon()? {
        Daemon::Reached(client) => {
            let request = Request::Simulate { uid, gid, groups, path: path.clone(), operation };
            let verdict = client.ask(&request, &mut |_| ())?;
            serde_json::from_value(verdict).or_fail(Exit::Failed, || "the daemon".to_owned())?
        }
        Daemon::None => {
            let id = vault::describe(&target.vault)?.vault;
            let keys = Keys::open(&id, args.vault.key_file.as_deref(), &args.vault.unlock)?;
            let fs = vault::open(&target.vault, &keys, Access::ReadOnly, Age::default())?;
            let asker = Asker { groups: Some(groups), ..fs.asker(uid, gid) };
            fs.simulate(&path, operation, &asker).map_err(|error| failed(&path, &error))?
        }
    };
    if args.vault.json {
        print_json(&json!(verdict))?;
    } else {
        print(&explained(&verdict, &principals::user_name(uid)))?;
    }
    Ok(Exit::Done)
}

/// The failure of a simulation.
pub fn failed(path: &Path, error: &crate::fs::FsError) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.shown()))
}

/// What decides and why, for a person.
fn explained(verdict: &Verdict, user: &str) -> String {
    let key = &verdict.key;
    let mut text = if verdict.allowed { "allowed" } else { "denied" }.to_owned();
    for Use { action, decision } in &verdict.uses {
        let may = if decision.allowed { "may" } else { "may not" };
        let why = match &decision.reason {
            Reason::Grant(grant) => format!("the grant {}", words(grant)),
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
