//! `atrest key grant` and `revoke`: who may use a master key. A change of a policy is data like
//! [`super::KeyChange`], and done by the daemon of a mounted vault.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::keys::policy::{Action, ActionSet, Effect, Grant, Principal};
use crate::keys::{KeyError, KeyRing, Timestamp};
use crate::sys::Show;

use super::super::control::Request;
use super::super::exit::{Context, Exit, Failure, print, print_json, tell};
use super::super::policy::words;
use super::super::principals;
use super::super::target::{Daemon, Target};
use super::super::trail::recorded;
use super::super::vault::{self, Keys};
use super::super::verify::within;
use super::KeyArgs;

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

/// A change of a master key's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// The key's name or id.
    pub name: String,
    /// The grant.
    pub grant: Grant,
    /// Whether it is taken back.
    pub revoke: bool,
    /// Only says what it would be like.
    pub dry_run: bool,
    /// Even if nobody could then use the key.
    pub confirmed: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChanged {
    /// The key's name.
    pub key: String,
    /// Its grants.
    pub grants: Vec<Grant>,
    /// What nobody may do any more whom the policy speaks of, and somebody could before.
    pub locks_out: Option<Action>,
}

impl PolicyChange {
    /// Does it to a ring, of a vault whose directory is of the user `owner`.
    ///
    /// # Errors
    /// [`KeyError`] where the key or the grant does not allow it; [`KeyError::LocksOut`] unless
    /// that is confirmed.
    pub fn apply(&self, ring: &mut KeyRing, owner: u32) -> Result<PolicyChanged, KeyError> {
        let now = Timestamp::now();
        let key = ring.key(&self.name)?.name().to_owned();
        let policy = ring.policy_mut(&self.name)?;
        let before = policy.clone();
        if self.revoke {
            policy.revoke(&self.grant, now)?;
        } else {
            policy.grant(self.grant.clone(), now)?;
        }
        let locks_out = [Action::Decrypt, Action::PutPolicy].into_iter().find(|&action| {
            before.lets_anybody(action, owner, now) && !policy.lets_anybody(action, owner, now)
        });
        match locks_out {
            Some(action) if !self.confirmed && !self.dry_run => {
                Err(KeyError::LocksOut { key, action })
            }
            _ => Ok(PolicyChanged { key, grants: policy.grants().to_vec(), locks_out }),
        }
    }

    /// Whether somebody who could use the key may not afterwards.
    pub fn takes_away(&self) -> bool {
        !self.dry_run && (self.grant.effect == Effect::Deny) != self.revoke
    }

    /// What was done, as a sentence.
    pub fn done(&self, key: &str) -> String {
        let verb = if self.revoke { "Took back" } else { "Granted" };
        let sentence = format!("{verb} for the master key `{key}`: {}", words(&self.grant));
        if self.dry_run { format!("Would say: {sentence} Nothing was changed.") } else { sentence }
    }
}

/// Does what is asked.
///
/// # Errors
/// [`Exit::Usage`] for users and groups that are not, paths outside of the vault and times in the
/// past; [`Exit::Policy`] where it would lock everybody out, or who asks may not; [`Exit::Key`].
pub fn run(args: &GrantArgs, revoke: bool) -> Result<Exit, Failure> {
    let target = Target::find(&args.key.vault.vault)?;
    let grant = args.grant(&target, revoke)?;
    let name = args.key.name.clone();
    let rehearsal = PolicyChange { name, grant, revoke, dry_run: true, confirmed: args.yes >= 2 };
    let who = Performer::of(args, &target)?;
    let rehearsed = who.perform(&rehearsal, &target)?;
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
            let changed = who.perform(&change, &target)?;
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
        let sentence = format!("there is no {} in the vault", path.shown());
        return Err(Failure::new(Exit::Usage, sentence));
    }
    let text = inside.into_os_string().into_string();
    text.map(Some).map_err(|_| {
        let sentence = format!("{} is not UTF-8, so no grant can name it", path.shown());
        Failure::new(Exit::Usage, sentence)
    })
}

/// Who changes the policy: this process, with nobody mounting meanwhile, or the daemon.
enum Performer {
    Here { keys: Box<Keys>, owner: u32, _turn: vault::Turn },
    Daemon,
}

impl Performer {
    fn of(args: &GrantArgs, target: &Target) -> Result<Self, Failure> {
        if let Daemon::Reached(_) = target.daemon()? {
            return Ok(Self::Daemon);
        }
        let id = vault::describe(&target.vault)?.vault;
        let held = &args.key.vault;
        let keys = Keys::open(&id, held.key_file.as_deref(), &held.unlock)?;
        let turn = vault::Turn::unused(&target.vault)?;
        let owner = vault::owner(&target.vault, &keys)?;
        Ok(Self::Here { keys: Box::new(keys), owner, _turn: turn })
    }

    fn perform(&self, change: &PolicyChange, target: &Target) -> Result<PolicyChanged, Failure> {
        match self {
            Self::Here { keys, owner, .. } => {
                if change.dry_run {
                    return Ok(change.apply(&mut keys.read()?.ring, *owner)?);
                }
                let request = Request::Policy(change.clone());
                recorded(&target.vault, keys, &request, |_| {
                    let (changed, file) = keys.edit(|file| change.apply(&mut file.ring, *owner))?;
                    vault::note_change(&target.vault, &file.ring, file.mark());
                    Ok((changed, file.ring))
                })
            }
            Self::Daemon => match target.daemon()? {
                Daemon::Reached(client) => {
                    let changed = client.ask(&Request::Policy(change.clone()), &mut |_| ())?;
                    serde_json::from_value(changed)
                        .or_fail(Exit::Failed, || "the daemon".to_owned())
                }
                Daemon::None => {
                    let sentence = "the vault was unmounted meanwhile: nothing was changed";
                    Err(Failure::new(Exit::Busy, sentence))
                }
            },
        }
    }
}

/// Goes on only if that was said twice: by `--yes --yes`, or on the terminal.
fn confirm_lock_out(key: &str, action: Action, said: bool) -> Result<(), Failure> {
    let refusal = KeyError::LocksOut { key: key.to_owned(), action };
    if said {
        return Ok(());
    }
    if io::stdin().is_terminal() {
        tell(&format!("{refusal}. Type the key's name to do it all the same:"));
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        if line.trim() == key {
            return Ok(());
        }
    }
    Err(refusal.into())
}
