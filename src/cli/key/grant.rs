//! `atrest key grant` and `revoke`: who may use a master key.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::backend::Backend;
use crate::cli::key::args::KeyArgs;
use crate::cli::output::{print, print_json};
use crate::cli::target::{Target, within};
use crate::keys::policy::{Action, ActionSet, Effect, Grant, Principal};
use crate::keys::{KeyError, Timestamp};
use crate::service::failure::{Exit, Failure, warn_user};
use crate::service::principals;
use crate::service::request::{PolicyChange, Request};
use crate::service::response::PolicyChanged;
use crate::sys::Show;

/// Arguments of `grant` and `revoke`.
#[derive(Debug, clap::Args)]
pub struct GrantArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    what: What,
    /// It ends then, as 2026-12-31T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// It counts at and below this path in the mount alone
    #[arg(long, value_name = "DIR")]
    under: Option<PathBuf>,
    /// Only say what the policy would be
    #[arg(long)]
    dry_run: bool,
    /// Given twice: do it even if nobody could then use the key, or change its policy
    #[arg(long, action = clap::ArgAction::Count)]
    yes: u8,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// A user, by name or number
    #[arg(long, value_name = "U")]
    user: Option<String>,
    /// The members of a group, by name or number
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// Every user, root and the owner among them
    #[arg(long)]
    everyone: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// What they may: decrypt, generate-data-key, describe, create, rotate, rewrap, retire, enable,
    /// disable, schedule-deletion, cancel-deletion, assign, put-policy, read-trail
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',', value_parser = action)]
    allow: Option<Vec<Action>>,
    /// What they may not, whatever else allows it
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',', value_parser = action)]
    deny: Option<Vec<Action>>,
}

fn action(word: &str) -> Result<Action, String> {
    let all = ActionSet::of(&Action::ALL);
    Action::of_word(word).ok_or_else(|| format!("the actions are {all}"))
}

/// Adds a grant to a master key's policy, or takes one away.
///
/// # Errors
/// [`Exit::Usage`] for users and groups that are not, paths outside of the vault and times in the
/// past; [`Exit::Policy`] where it would lock everybody out, or denies the caller; [`Exit::Key`].
pub fn run(args: &GrantArgs, revoke: bool) -> Result<Exit, Failure> {
    let target = Target::find(&args.key.vault.vault)?;
    let grant = args.grant(&target, revoke)?;
    let name = args.key.name.clone();
    let rehearsal = PolicyChange { name, grant, revoke, dry_run: true, confirmed: args.yes >= 2 };
    let backend = Backend::of(&target, &args.key.vault)?;
    let perform = |change: &PolicyChange| -> Result<PolicyChanged, Failure> {
        backend.perform(&Request::Policy(change.clone()), &|_| ())
    };
    let rehearsed = perform(&rehearsal)?;
    let (change, changed) = match args.dry_run {
        true => (rehearsal, rehearsed),
        false => {
            let confirmed = match rehearsed.locks_out {
                Some(action) => {
                    confirm_lock_out(&rehearsed.key, action, rehearsal.confirmed)?;
                    true
                }
                None => false,
            };
            let change = PolicyChange { dry_run: false, confirmed, ..rehearsal };
            let changed = perform(&change)?;
            (change, changed)
        }
    };
    if args.key.vault.json {
        print_json(&json!(changed))?;
    } else {
        print(&change.done(&changed.key))?;
    }
    Ok(Exit::Done)
}

impl GrantArgs {
    fn grant(&self, target: &Target, revoke: bool) -> Result<Grant, Failure> {
        let principal = match (&self.whom.user, &self.whom.group) {
            (Some(user), _) => Principal::User(principals::user(user)?),
            (None, Some(group)) => Principal::Group(principals::group(group)?),
            (None, None) => Principal::Everyone,
        };
        let (effect, actions) = match (&self.what.allow, &self.what.deny) {
            (Some(actions), _) => (Effect::Allow, actions.as_slice()),
            (None, Some(actions)) => (Effect::Deny, actions.as_slice()),
            (None, None) => (Effect::Deny, &[][..]),
        };
        let past = self.until.filter(|until| *until <= Timestamp::now() && !revoke);
        if let Some(until) = past {
            return Err(Failure::new(Exit::Usage, KeyError::PastGrant(until).to_string()));
        }
        let under = self.under.as_deref().map(|path| under(path, target, revoke)).transpose()?;
        let actions = ActionSet::of(actions);
        Ok(Grant { principal, effect, actions, until: self.until, under: under.flatten() })
    }
}

/// The path that a grant names; None for the whole vault. A misspelt one would allow nothing, and
/// deny nothing.
fn under(path: &Path, target: &Target, revoke: bool) -> Result<Option<String>, Failure> {
    let inside = within(path, target)?;
    if inside.as_os_str().is_empty() {
        return Ok(None);
    }
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    if !revoke && target.vault.join(&inside).symlink_metadata().is_err_and(|error| missing(&error))
    {
        let message = format!("there is no {} in the vault", path.shown());
        return Err(Failure::new(Exit::Usage, message));
    }
    let text = inside.into_os_string().into_string();
    text.map(Some).map_err(|_| {
        let message = format!("{} is not UTF-8, so no grant can name it", path.shown());
        Failure::new(Exit::Usage, message)
    })
}

/// Goes on only if that was said twice: by `--yes --yes`, or on the terminal.
fn confirm_lock_out(key: &str, action: Action, said: bool) -> Result<(), Failure> {
    let refusal = KeyError::LocksOut { key: key.to_owned(), action };
    if said {
        return Ok(());
    }
    if io::stdin().is_terminal() {
        warn_user(&format!("{refusal}. Type the key's name to do it all the same:"));
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        if line.trim() == key {
            return Ok(());
        }
    }
    Err(refusal.into())
}
